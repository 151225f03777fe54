//! The limits of one run: what it asked for, under the ceiling of the configuration.

use std::time::Duration;

use crate::config::{Limits, units::show_duration};
use crate::fault::{Fault, code};

/// More than the ceiling is an error that names it, not a silent cut: a caller that asked for a day must not lose its work
/// after two hours.
pub(super) fn of_run(name: &str, ceiling: &Limits, wall: Option<Duration>, idle: Option<Duration>) -> Result<Limits, Fault> {
    let checked = |key: &str, config: &str, asked: Duration, most: Option<Duration>| {
        if asked.is_zero() {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("{key} is 0")).hint("give at least 1, or leave it out"));
        }
        match most {
            Some(most) if asked > most => Err(Fault::new(
                code::INVALID_ARGUMENT,
                format!("{key} is {}, and the ceiling of `{name}` is {}", show_duration(asked), show_duration(most)),
            )
            .hint(format!(
                "ask for at most {} s, or leave it out; a person can raise [backends.{name}.limits] {config} in the configuration",
                most.as_secs()
            ))),
            _ => Ok(asked),
        }
    };
    let mut limits = ceiling.clone();
    if let Some(asked) = wall {
        limits.wall = checked("timeout_s", "wall", asked, Some(ceiling.wall))?;
    }
    if let Some(asked) = idle {
        limits.idle = Some(checked("idle_timeout_s", "idle", asked, ceiling.idle)?);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults;

    #[test]
    fn a_run_may_ask_for_less_and_not_for_more() {
        let hour = Duration::from_secs(3600);
        let ceiling = defaults::limits();
        assert_eq!(of_run("exec", &ceiling, None, None).unwrap(), ceiling);
        let less = of_run("exec", &ceiling, Some(hour), Some(hour * 5)).unwrap();
        assert_eq!((less.wall, less.idle), (hour, Some(hour * 5)), "no idle ceiling: any idle time");
        let more = of_run("exec", &ceiling, Some(hour * 3), None).unwrap_err();
        assert_eq!(more.code, code::INVALID_ARGUMENT);
        assert_eq!(more.message, "timeout_s is 3h, and the ceiling of `exec` is 2h");
        assert!(more.hint.unwrap().contains("at most 7200 s"));
        let with_idle = Limits { idle: Some(hour), ..ceiling };
        assert_eq!(of_run("exec", &with_idle, None, None).unwrap().idle, Some(hour));
        assert!(of_run("exec", &with_idle, None, Some(hour * 2)).unwrap_err().message.contains("idle_timeout_s is 2h"));
        assert!(of_run("exec", &with_idle, Some(Duration::ZERO), None).is_err());
    }
}
