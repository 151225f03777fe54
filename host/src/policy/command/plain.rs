//! Paths in arguments: whether one is written in its normal form.
//!
//! Nothing is ever rewritten: an argument runs byte for byte as it was given, or not at all. What is not in normal form fits no
//! wildcard and no regular expression of a rule that allows, so `/var/log/**` cannot be left by `/var/log/../../etc/shadow`; only
//! a rule that writes it out, or `...`, lets it pass. A rule that denies is held against every form (see [`forms`]). Where
//! symbolic links lead at the far end cannot be known here.

use std::borrow::Cow;

/// Why a text is not in normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplain {
    /// `..` as a part of a path.
    Up,
    /// `.` as a part of a path.
    Here,
    /// `//` in a path.
    Doubled,
}

impl Unplain {
    /// For messages: "… holds …".
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Up => "`..` as a part of a path",
            Self::Here => "`.` as a part of a path",
            Self::Doubled => "`//` in a path",
        }
    }
}

/// A byte that can be a part of a name: beside it, dots are a part of the name too (`main..dev`, `a.txt`).
const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'_' | b'.' | b'-' | b'+' | b'%')
}

/// Whether something in an argument is not in normal form. A path may stand after an option's letter (`-f../x`), after `=`, `:`,
/// `,` or whatever else is no part of a name. `://` is no path's.
#[must_use]
pub fn unplain(argument: &str) -> Option<Unplain> {
    let bytes = argument.as_bytes();
    let option = bytes.first() == Some(&b'-');
    let begins = |before: Option<u8>| before.is_none_or(|byte| matches!(byte, b'/' | b'=' | b':' | b','));
    look(bytes, option, begins, |next| next.is_none_or(|byte| byte == b'/'))
}

/// The same for a shell's line, in which a word also ends at a blank, a quote or an operator.
#[must_use]
pub fn unplain_line(line: &str) -> Option<Unplain> {
    let edge = |beside: Option<u8>| beside.is_none_or(|byte| !is_name(byte));
    look(line.as_bytes(), true, edge, edge)
}

/// `begins` and `ends` say where a lone `.` is a part of a path: in an argument, a `.` after a blank is the end of a sentence.
fn look(bytes: &[u8], glued: bool, begins: impl Fn(Option<u8>) -> bool, ends: impl Fn(Option<u8>) -> bool) -> Option<Unplain> {
    for at in 0..bytes.len() {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let next = |steps: usize| bytes.get(at + steps).copied();
        match bytes[at] {
            // In `-C..` the dots follow a letter and are a path all the same. Three dots are a name.
            b'.' if next(1) == Some(b'.') && ends(next(2)) && before.is_none_or(|byte| !is_name(byte) || (glued && byte != b'.')) => {
                return Some(Unplain::Up);
            }
            b'.' if ends(next(1)) && begins(before) => return Some(Unplain::Here),
            b'/' if next(1) == Some(b'/') && before != Some(b':') => return Some(Unplain::Doubled),
            _ => {}
        }
    }
    None
}

/// An argument, and what it comes to as a path (without `.`, `//`, a slash at the end; each `..` taking away what stands before
/// it), where that is something else.
#[must_use]
pub fn forms(argument: &str) -> Vec<Cow<'_, str>> {
    let mut out = vec![Cow::Borrowed(argument)];
    if !argument.contains('/') {
        return out;
    }
    let normal = normal(argument);
    if normal != argument {
        out.push(Cow::Owned(normal));
    }
    out
}

fn normal(path: &str) -> String {
    // What stands before the path of `--file=/x` belongs to it as it is.
    let start = path.find('=').filter(|_| path.starts_with('-')).map_or(0, |at| at + 1);
    let (head, path) = path.split_at(start);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{head}{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_normal_form_is_seen_wherever_a_path_may_stand() {
        for text in [
            "..",
            "../x",
            "/a/..",
            "/a/../b",
            "a/..",
            "a/../b",
            "--file=..",
            "--file=../x",
            "--file=/a/../b",
            "-f../x",
            "-f..",
            "-C..",
            "x:../y",
            "a,../b",
            "@../x",
            "'../x'",
            "file://../x",
            "/..",
            "~/../x",
            "/a/b/../../..",
            "if=../x",
            "-I/a/../b",
            "(../x",
        ] {
            assert_eq!(unplain(text), Some(Unplain::Up), "{text}");
        }
        for text in [".", "./x", "/a/.", "/a/./b", "a/./b", "--file=.", "--file=./x", "x:./y"] {
            assert_eq!(unplain(text), Some(Unplain::Here), "{text}");
        }
        for text in ["//", "/a//b", "a//b", "--file=/a//b", "//etc/passwd", "///"] {
            assert_eq!(unplain(text), Some(Unplain::Doubled), "{text}");
        }
        for text in [
            "",
            "/",
            "/a/b",
            "a/b/",
            "main..dev",
            "HEAD..",
            "...",
            ".../x",
            "a...b",
            ".bashrc",
            "/a/.b",
            "/a/..b",
            "/a/b..",
            "1.5",
            "so it is.",
            "the end .",
            "https://example.org/x",
            "-v",
            "--",
            "-n.5",
            "a.b.c",
            "ä..ö",
            "x..y/z",
            "..dev",
        ] {
            assert_eq!(unplain(text), None, "{text}");
        }
    }

    #[test]
    fn in_a_line_a_word_also_ends_at_blanks_and_operators() {
        for text in ["cat ../x", "cat ..", "cat '..'", "cd ..; ls", "cat a/..&", "cat -f..", "(cd ..)", "cat \"/a/../b\""] {
            assert_eq!(unplain_line(text), Some(Unplain::Up), "{text}");
        }
        for text in [". x", "cat .", "rm -r .", "cat ./x", "ls .;id"] {
            assert_eq!(unplain_line(text), Some(Unplain::Here), "{text}");
        }
        for text in ["ls /a/b main..dev", "echo wait ... done", "sleep 0.5", "ls .ssh", "curl https://example.org/a.b"] {
            assert_eq!(unplain_line(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_has_one_normal_form() {
        let second = |text| forms(text).get(1).map(|form| form.clone().into_owned());
        for (text, normal) in [
            ("/etc//shadow", "/etc/shadow"),
            ("/etc/./shadow", "/etc/shadow"),
            ("/var/log/../../etc/shadow", "/etc/shadow"),
            ("/../etc/shadow", "/etc/shadow"),
            ("etc/shadow/", "etc/shadow"),
            ("./x", "x"),
            ("../../x/..", "../.."),
            ("--file=/etc//shadow", "--file=/etc/shadow"),
        ] {
            assert_eq!(second(text).as_deref(), Some(normal), "{text}");
        }
        assert_eq!(second("/etc/shadow"), None);
        assert_eq!(second("plain"), None);
    }
}
