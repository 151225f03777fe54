//! Quoting for a POSIX shell.
//!
//! Every argument is put between single quotes, where no byte has a meaning but the quote itself (POSIX.1-2024, 2.2.2), and
//! quotes are put between double quotes, where a single one has none (2.2.3). Nothing is left bare, so no word can be a reserved
//! word, an alias, an assignment, a tilde or a brace. This holds for any bytes but NUL, which no argument can hold. Crates that
//! do the like leave plain words bare and choose between styles for looks (shlex 2); what must be right for certain is shorter.

/// A NUL, where in the list (from 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("argument {0} holds a NUL, which no argument can")]
pub struct HoldsNul(pub usize);

/// One argument. The caller has seen to it that it holds no NUL.
fn argument(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        out.extend_from_slice(b"''");
    }
    for run in bytes.chunk_by(|one, other| (*one == b'\'') == (*other == b'\'')) {
        let quote = if run[0] == b'\'' { b'"' } else { b'\'' };
        out.push(quote);
        out.extend_from_slice(run);
        out.push(quote);
    }
}

/// Arguments as words of a shell: it hands on exactly these bytes, in this order. An empty list is an empty text.
pub fn words<A: AsRef<[u8]>>(args: &[A]) -> Result<Vec<u8>, HoldsNul> {
    let mut out = Vec::with_capacity(args.iter().map(|arg| arg.as_ref().len() + 3).sum());
    for (at, arg) in args.iter().enumerate() {
        let bytes = arg.as_ref();
        if bytes.contains(&0) {
            return Err(HoldsNul(at));
        }
        if at > 0 {
            out.push(b' ');
        }
        argument(bytes, &mut out);
    }
    Ok(out)
}

/// A shell's command that becomes the program `args[0]`: never a builtin, a function or an alias of that name, for `exec`
/// looks for a file only (POSIX.1-2024, 2.15, exec). Its name must not begin with `-`, which some shells take for an option of
/// `exec`.
pub fn exec<A: AsRef<[u8]>>(args: &[A]) -> Result<Vec<u8>, HoldsNul> {
    let mut out = b"exec ".to_vec();
    out.extend(words(args)?);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_argument_is_closed_in() {
        let quoted = |args: &[&str]| String::from_utf8(words(args).unwrap()).unwrap();
        assert_eq!(quoted(&["a", "", "it's", "''"]), r#"'a' '' 'it'"'"'s' "''""#);
        assert_eq!(quoted(&[]), "");
        assert_eq!(exec(&["ls", "-l"]).unwrap(), b"exec 'ls' '-l'");
        assert_eq!(words(&["a", "b\0"]), Err(HoldsNul(1)));
    }
}
