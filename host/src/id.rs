//! Ids: newtypes, made from 80 random bits, written as a prefix and 16 characters of lower-case base32.
//!
//! The alphabet is that of RFC 4648 section 6, in lower case, without padding.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn encode(bytes: [u8; 10]) -> [u8; 16] {
    let mut out = [0u8; 16];
    let mut buffer: u32 = 0;
    let mut bits = 0;
    let mut at = 0;
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out[at] = ALPHABET[((buffer >> bits) & 31) as usize];
            at += 1;
        }
        buffer &= (1 << bits) - 1;
    }
    out
}

fn decode(text: &str) -> Option<[u8; 10]> {
    let text: &[u8; 16] = text.as_bytes().try_into().ok()?;
    let mut out = [0u8; 10];
    let mut buffer: u32 = 0;
    let mut bits = 0;
    let mut at = 0;
    for byte in text {
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        buffer = (buffer << 5) | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out[at] = (buffer >> bits) as u8;
            at += 1;
            buffer &= (1 << bits) - 1;
        }
    }
    Some(out)
}

/// A text that is no id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no id of the form {prefix}…16 letters")]
pub struct BadId {
    text: String,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 10]);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the system's random source.
            ///
            /// # Panics
            /// When the system has no random source, which Linux rules out after boot (getrandom(2)).
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0u8; 10];
                #[expect(clippy::expect_used, reason = "no id can be made without a random source, and nothing can go on")]
                getrandom::fill(&mut bytes).expect("the system has a random source");
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(std::str::from_utf8(&encode(self.0)).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix($prefix)
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| BadId { text: text.to_owned(), prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "[a-z2-7]{16}$"),
                })
            }
        }
    };
}

id!(
    /// One run.
    RunId, "run_"
);
id!(
    /// One conversation of a backend, which several runs may continue.
    SessionId, "ses_"
);
id!(
    /// Runs that were started together.
    GroupId, "grp_"
);
id!(
    /// A message between agents, or a steering message.
    MessageId, "msg_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_wrote() {
        for _ in 0..1000 {
            let id = RunId::random();
            assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
            assert_eq!(id.to_string().len(), 20);
        }
    }

    #[test]
    fn the_alphabet_is_that_of_rfc_4648() {
        assert_eq!(&encode(*b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), b"aaaaaaaaaaaaaaaa");
        assert_eq!(&encode(*b"foobarfoob"), b"mzxw6ytbojtg633c");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "run_",
            "run_aaaaaaaaaaaaaaa",
            "run_aaaaaaaaaaaaaaaaa",
            "ses_aaaaaaaaaaaaaaaa",
            "run_AAAAAAAAAAAAAAAA",
            "run_1aaaaaaaaaaaaaaa",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
