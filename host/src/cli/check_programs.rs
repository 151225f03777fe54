//! Which versions of programs are here, for `falconer check`: each program that a backend relies on is asked, as a run would start it.
//!
//! It gets the granted environment and nothing else, an empty input and a few seconds; what it prints is read up to a limit and
//! shown as far as it is a version. A version outside of what the backend was tested with is a warning: it may work as well.

use std::collections::BTreeMap;
use std::io::{PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::show;
use crate::backend::{Backend, State, TestedProgram, Version};
use crate::policy::{Asking, Finding, Policy, Severity};

/// How long a program may take to tell its version; a cold start of a large one takes a second or two.
const TIME: Duration = Duration::from_secs(10);
/// How much of what it prints is read.
const PRINTED: usize = 16 * 1024;
/// How much of it is shown where it is no version.
const SHOWN: usize = 120;

/// What there is to say of the programs of a backend. Those that are not found are the policy's to tell.
pub(super) async fn findings(policy: &Policy, backend: &Backend, client_env: &BTreeMap<String, String>) -> Vec<Finding> {
    let State::Ready = backend.state else { return Vec::new() };
    let mut findings = Vec::new();
    for program in backend.description.iter().flat_map(|description| &description.programs) {
        let finding = match policy.asking(&backend.name, &program.name, &program.version_args, client_env) {
            None if policy.grant(&backend.name).programs.contains_key(&program.name) => continue,
            None => Finding {
                severity: Severity::Warning,
                subject: subject(program),
                message: "it is not granted, and the backend relies on it".to_owned(),
                hint: Some(format!(
                    "[backends.{}.grants] programs = {{ {name} = \"{name}\" }}",
                    backend.name,
                    name = show::inert(&program.name)
                )),
            },
            Some(Err(rule)) => {
                warning(program, format!("not asked for: {rule}"), "let the grant's `allow` take its version arguments".to_owned())
            }
            Some(Ok(asking)) => {
                let path = asking.path.clone();
                let printed = tokio::task::spawn_blocking(move || ask(&asking)).await.unwrap_or_else(|error| Err(error.to_string()));
                judged(program, path.as_str(), printed)
            }
        };
        findings.push(finding);
    }
    findings
}

fn subject(program: &TestedProgram) -> String {
    format!("version of {}", show::inert(&program.name))
}

fn warning(program: &TestedProgram, message: String, hint: String) -> Finding {
    Finding { severity: Severity::Warning, subject: subject(program), message, hint: Some(hint) }
}

fn judged(program: &TestedProgram, path: &str, printed: Result<String, String>) -> Finding {
    let tested = format!("tested with {} to {}", program.tested_from, program.tested_to);
    let args = program.version_args.join(" ");
    let printed = match printed {
        Ok(printed) => printed,
        Err(why) => return warning(program, format!("{path}: {why} ({tested})"), format!("run `{path} {args}` and look; install it anew")),
    };
    match Version::find(&printed) {
        None => {
            let line = show::line(&printed, SHOWN);
            warning(program, format!("{path} prints no version, but `{line}` ({tested})"), format!("run `{path} {args}` and look"))
        }
        Some(version) if (&program.tested_from..=&program.tested_to).contains(&&version) => {
            Finding { severity: Severity::Good, subject: subject(program), message: format!("{version}, {path} ({tested})"), hint: None }
        }
        Some(version) => {
            let hint = if version < program.tested_from {
                "it may work as well; a newer one is safer"
            } else {
                "it may work as well; where it does not, install a version that was tested"
            };
            warning(program, format!("{version}, {path}: not a version that was tested ({tested})"), hint.to_owned())
        }
    }
}

/// What it prints, on either stream; or why there is nothing to read. Blocks. Whatever it started in its group is killed.
fn ask(asking: &Asking) -> Result<String, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let errors = writer.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(asking.path.as_std_path());
    command.args(&asking.args).env_clear().envs(&asking.env).current_dir("/").process_group(0);
    let started = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn();
    // It holds our ends of the pipe.
    drop(command);
    let mut child = started.map_err(|error| format!("does not start: {error}"))?;
    let heard = listen(&child, reader);
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Not reaped yet, so the number is still its group's. Nobody left is no error.
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Also where it went into another group, or it would be waited for in vain.
    let _ = child.kill();
    let status = child.wait().map_err(|error| error.to_string())?;
    let printed = heard?;
    if printed.trim().is_empty() && !status.success() {
        return Err(format!("ends with {status} and says nothing"));
    }
    Ok(printed)
}

/// Reads until it has ended, or closed its output, or printed enough, or its time is over.
fn listen(child: &Child, mut reader: PipeReader) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("it has no number")?;
    let end = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| text(&error))?;
    let until = Instant::now() + TIME;
    let mut printed = Vec::new();
    let mut piece = [0; 4096];
    while printed.len() < PRINTED {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("did not tell its version within {} s", TIME.as_secs()));
        }
        let wait = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let (readable, ended) = {
            let mut fds = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
            match poll(&mut fds, Some(&wait)) {
                Ok(_) => (!fds[0].revents().is_empty(), !fds[1].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(text(&error)),
            }
        };
        if readable {
            match reader.read(&mut piece).map_err(|error| text(&error))? {
                0 => break,
                count => printed.extend_from_slice(&piece[..count]),
            }
        } else if ended {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(script: &str) -> Asking {
        let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        Asking { path: "/bin/sh".into(), args: vec!["-c".to_owned(), script.to_owned()], env }
    }

    fn tested() -> TestedProgram {
        let version = |text: &str| text.parse::<Version>().unwrap();
        TestedProgram {
            name: "tool".to_owned(),
            version_args: vec!["--version".to_owned()],
            tested_from: version("1.9"),
            tested_to: version("1.10.2"),
        }
    }

    #[test]
    fn it_is_heard_on_both_streams_and_gets_nothing_but_its_environment() {
        assert_eq!(ask(&asking("echo out; echo err >&2; cat; env | grep -c CARGO")).unwrap(), "out\nerr\n0\n");
        assert!(ask(&asking("exit 3")).unwrap_err().contains("3"));
        let nowhere = Asking { path: "/no/such/program".into(), ..asking("") };
        assert!(ask(&nowhere).unwrap_err().contains("does not start"));
    }

    #[test]
    fn what_holds_its_output_open_or_floods_it_does_not_hold_us_up() {
        assert_eq!(ask(&asking("echo 1.9.9; sleep 1000 & exit 0")).unwrap(), "1.9.9\n");
        assert!(ask(&asking("yes 1.9.9")).unwrap().len() >= PRINTED);
    }

    #[test]
    fn a_version_outside_of_what_was_tested_is_a_warning() {
        let said = |printed: &str| judged(&tested(), "/bin/tool", Ok(printed.to_owned()));
        let good = said("tool 1.10.0 (x)");
        assert_eq!((good.severity, good.message.as_str()), (Severity::Good, "1.10.0, /bin/tool (tested with 1.9 to 1.10.2)"));
        for printed in ["1.8.99", "1.10.3", "2.0", "no number"] {
            let finding = said(printed);
            assert_eq!(finding.severity, Severity::Warning, "{printed}");
            assert!(finding.message.contains("tested with 1.9 to 1.10.2") && finding.hint.is_some(), "{finding:?}");
        }
        assert_eq!(judged(&tested(), "/bin/tool", Err("does not start".to_owned())).severity, Severity::Warning);
    }
}
