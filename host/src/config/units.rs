//! Durations (`2h`, `15m`, `500ms`, `1h30m`) and sizes (`64 MiB`, `10kB`), read and written; and shares of CPU time.
//!
//! A number without a unit is refused, because a reader of the file would have to guess it. Only whole numbers: `1h30m`, not `1.5h`.

use std::time::Duration;

use serde::Serialize;

const DURATIONS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// What is wrong with a duration or a size: the message, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text.split_at(digits)
}

/// Reads a duration: one or more of a whole number and `d`, `h`, `m`, `s` or `ms`, the largest unit first.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = |message: String| UnitError {
        message,
        hint: "write a whole number and a unit (ms, s, m, h, d), as in \"90s\" or \"1h30m\"".into(),
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("a duration is empty".into()));
    }
    let mut total: u64 = 0;
    let mut previous = u64::MAX;
    while !rest.is_empty() {
        let (digits, tail) = split(rest);
        let tail = tail.trim_start();
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        if digits.is_empty() || tail.starts_with('.') {
            return Err(wrong(format!("`{text}` is not a duration")));
        }
        if unit.is_empty() {
            return Err(wrong(format!("`{text}` has no unit")));
        }
        let Some(&(_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong(format!("`{unit}` is no unit of time")));
        };
        if factor >= previous {
            return Err(wrong(format!("the units of `{text}` are not in order")));
        }
        previous = factor;
        total = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| wrong(format!("`{text}` is too long")))?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration as [`duration`] reads it, in whole milliseconds.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut out = String::new();
    for (unit, factor) in DURATIONS {
        if rest >= *factor {
            out.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

/// Reads a size in bytes: a whole number and `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`, `MiB`, `GiB`, `TiB` (of 1024).
pub fn size(text: &str) -> Result<u64, UnitError> {
    let wrong =
        |message: String| UnitError { message, hint: "write a whole number and a unit (B, KiB, MiB, GiB), as in \"64 MiB\"".into() };
    let trimmed = text.trim();
    let (digits, tail) = split(trimmed);
    let unit = tail.trim_start();
    if digits.is_empty() || unit.starts_with('.') {
        return Err(wrong(format!("`{text}` is not a size")));
    }
    if unit.is_empty() {
        return Err(wrong(format!("`{text}` has no unit")));
    }
    let Some(&(_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong(format!("`{unit}` is no unit of size")));
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(|| wrong(format!("`{text}` is too large")))
}

/// Writes a size as [`size`] reads it, exactly.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, factor) in SIZES.iter().filter(|(unit, _)| unit.ends_with("iB")) {
        if bytes >= *factor && bytes.is_multiple_of(*factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

/// CPUs' worth of time, as a share: 1.5 is one and a half CPU, all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cpus(u32);

impl Cpus {
    /// So many hundredths of a CPU.
    #[must_use]
    pub const fn hundredths(count: u32) -> Self {
        Self(count * 1_000)
    }

    /// So many CPUs, to five places; none for what is no share of a machine (less than 0, not finite, over 40 000).
    #[must_use]
    pub fn new(cpus: f64) -> Option<Self> {
        let micros = (cpus * 100_000.0).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in the range of the type")]
        (0.0..=f64::from(u32::MAX)).contains(&micros).then_some(Self(micros as u32))
    }

    /// Microseconds of CPU time in each tenth of a second.
    #[must_use]
    pub const fn micros_in_100_ms(self) -> u32 {
        self.0
    }

    /// As a number of CPUs.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("500ms", 500),
            ("2h", 7_200_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            (" 30 d ", 2_592_000_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn durations_that_one_must_guess_are_refused() {
        for (text, message) in [
            ("", "a duration is empty"),
            ("30", "`30` has no unit"),
            ("1.5h", "`1.5h` is not a duration"),
            ("h", "`h` is not a duration"),
            ("-1s", "`-1s` is not a duration"),
            ("3 fortnights", "`fortnights` is no unit of time"),
            ("30m1h", "the units of `30m1h` are not in order"),
            ("1h1h", "the units of `1h1h` are not in order"),
            ("999999999999999999d", "`999999999999999999d` is too long"),
        ] {
            assert_eq!(duration(text).unwrap_err().message, message);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("64 MiB", 67_108_864), ("64MiB", 67_108_864), ("10kB", 10_000), ("1 GiB", 1 << 30), ("17 B", 17)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, message) in [
            ("64", "`64` has no unit"),
            ("MiB", "`MiB` is not a size"),
            ("64 Mb", "`Mb` is no unit of size"),
            ("99999999 TiB", "`99999999 TiB` is too large"),
        ] {
            assert_eq!(size(text).unwrap_err().message, message);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in 0u64..10_000_000_000_000, bytes in any::<u64>()) {
            prop_assert_eq!(duration(&show_duration(Duration::from_millis(ms))), Ok(Duration::from_millis(ms)));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_breaks_the_readers(text in ".{0,40}") {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
