//! The limits that the contract states for what a component hands over. Breaking one ends the run.

use super::Violation;
use crate::fault::code;

/// Bytes of a name.
pub const NAME: usize = 128;
/// Bytes of a message for people.
pub const MESSAGE: usize = 4 * 1024;
/// Items of a list.
pub const ITEMS: usize = 4_096;
/// Bytes of one read.
pub const READ: usize = 64 * 1024;
/// Bytes of a label.
pub const LABEL: usize = 32;
/// Bytes of all arguments of a child together.
pub const ARGS: usize = 1024 * 1024;
/// Bytes of a child's environment as the component gives it, names and values together.
pub const ENV: usize = 1024 * 1024;
/// Bytes of a path (PATH_MAX).
pub const PATH: usize = 4_096;

/// A name: 1 to 128 bytes.
pub fn name(what: &str, text: &str) -> Result<(), Violation> {
    if text.is_empty() {
        return Err(Violation { code: code::CONTRACT_VIOLATION, message: format!("{what} is empty") });
    }
    at_most(what, text.len(), NAME)
}

/// A message for people.
pub fn message(what: &str, text: &str) -> Result<(), Violation> {
    at_most(what, text.len(), MESSAGE)
}

/// A list.
pub fn items(what: &str, count: usize) -> Result<(), Violation> {
    if count > ITEMS {
        return Err(Violation { code: code::VALUE_TOO_LARGE, message: format!("{what}: {count} items; the limit is {ITEMS}") });
    }
    Ok(())
}

/// Anything counted in bytes.
pub fn at_most(what: &str, size: usize, limit: usize) -> Result<(), Violation> {
    if size > limit {
        return Err(Violation { code: code::VALUE_TOO_LARGE, message: format!("{what}: {size} bytes; the limit is {limit}") });
    }
    Ok(())
}

/// A label: 1 to 32 of `a-z`, `0-9` and `-`.
pub fn label(text: &str) -> Result<(), Violation> {
    at_most("the label of a child", text.len(), LABEL)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        let message = format!("the label `{}` of a child holds other letters than a-z, 0-9 and -, or none", text.escape_default());
        return Err(Violation { code: code::CONTRACT_VIOLATION, message });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_are_inside() {
        assert!(name("it", &"x".repeat(NAME)).is_ok());
        assert_eq!(name("it", &"x".repeat(NAME + 1)).unwrap_err().code, code::VALUE_TOO_LARGE);
        assert_eq!(name("it", "").unwrap_err().code, code::CONTRACT_VIOLATION);
        assert!(items("it", ITEMS).is_ok() && items("it", ITEMS + 1).is_err());
        assert!(label("a-9").is_ok());
        assert_eq!(label("A").unwrap_err().code, code::CONTRACT_VIOLATION);
        assert_eq!(label("").unwrap_err().code, code::CONTRACT_VIOLATION);
        assert_eq!(label(&"a".repeat(33)).unwrap_err().code, code::VALUE_TOO_LARGE);
    }
}
