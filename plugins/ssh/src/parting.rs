//! ssh's parting words on the standard error of the command.
//!
//! Whatever `-E` says, ssh writes a line there when the connection goes under it (clientloop.c, `quit_message`), behind the last bytes
//! of the command and with nothing between. They are no output of the command: they would be told as such, and its offsets would not be
//! those of the far end any more. What may be such a line is held back until something follows it, or the end shows which it was.

/// How the lines begin.
const BEGINNINGS: [&[u8]; 2] = [b"Connection to ", b"Read from remote host "];
/// One is never longer: 300 bytes of a name, 100 of a reason, the words between.
const LONGEST: usize = 512;

/// Keeps the parting words apart.
#[derive(Debug, Default)]
pub struct Parting {
    held: Vec<u8>,
}

impl Parting {
    /// Takes bytes of the command; gives those that are its own for certain.
    pub fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let mut all = if self.held.is_empty() { bytes } else { [std::mem::take(&mut self.held), bytes].concat() };
        let at = suspect(&all);
        self.held = all.split_off(at);
        all
    }

    /// The far end has had its last word: all before that was the command's.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The connection went without a word of the far end: what is held is ssh's where it is such a line.
    pub fn end(&mut self) -> Vec<u8> {
        let mut held = self.rest();
        if let Some(at) = (0..held.len()).rev().find(|at| is_parting(&held[*at..])) {
            held.truncate(at);
        }
        held
    }
}

/// Where a line begins that may be a parting one, at the end of these bytes.
fn suspect(all: &[u8]) -> usize {
    let from = all.len().saturating_sub(LONGEST);
    let tail = &all[from..];
    let whole = BEGINNINGS.iter().filter_map(|words| tail.windows(words.len()).rposition(|window| window == *words));
    let whole = whole.filter(|at| {
        let line = &tail[*at..];
        line.iter().position(|byte| *byte == b'\n').is_none_or(|end| end + 1 == line.len())
    });
    let begun = (1..BEGINNINGS[1].len().min(tail.len() + 1))
        .rev()
        .map(|length| tail.len() - length)
        .find(|at| BEGINNINGS.iter().any(|words| words.starts_with(&tail[*at..])));
    from + whole.chain(begun).min().unwrap_or(tail.len())
}

fn is_parting(line: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(line).ok().and_then(|text| text.strip_suffix('\n')) else { return false };
    let text = text.trim_end_matches('\r');
    text.starts_with("Connection to ") && text.ends_with(" closed by remote host.")
        || text.starts_with("Read from remote host ") && text.contains(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: &[u8] = b"Connection to 127.0.0.1 closed by remote host.\r\n";
    const RESET: &[u8] = b"Read from remote host web: Connection reset by peer\r\n";

    /// What is told of these bytes, cut into pieces of this size.
    fn told(bytes: &[u8], size: usize, end: fn(&mut Parting) -> Vec<u8>) -> Vec<u8> {
        let mut parting = Parting::default();
        let mut out: Vec<u8> = bytes.chunks(size).flat_map(|piece| parting.push(piece.to_vec())).collect();
        out.extend(end(&mut parting));
        out
    }

    #[test]
    fn they_are_kept_apart_however_the_bytes_come() {
        let commands: [&[u8]; 5] =
            [b"", b"abc", b"one\ntwo\n", b"Connection to x", b"a Connection to y closed by remote host.\r\nand more\n"];
        for command in commands {
            for words in [CLOSED, RESET] {
                let all = [command, words].concat();
                for size in 1..=all.len() {
                    assert_eq!(told(&all, size, Parting::end), command, "{:?} in {size}", String::from_utf8_lossy(&all));
                    assert_eq!(told(&all, size, Parting::rest), all, "behind them came the far end's last word");
                }
            }
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for text in [&b"Connection to x is fine\n"[..], b"Connection to ", b"Conn", b"Read from remote host \n", b"plain\n"] {
            for size in 1..=text.len() {
                assert_eq!(told(text, size, Parting::end), text);
            }
        }
        let mut parting = Parting::default();
        assert_eq!(parting.push(b"much and Connection to the rest\nof it\n".to_vec()), b"much and Connection to the rest\nof it\n");
    }
}
