//! The corpus in `tests/fixtures/policy`: what is to be refused, and what is to arrive, by the rules beside it.

use serde::Deserialize;

use super::shells::{arrives, recorder, shells};
use super::*;

const RULES: &str = include_str!("../../../../../tests/fixtures/policy/falconer.toml");
const REFUSED: &str = include_str!("../../../../../tests/fixtures/policy/refused.json");
const ALLOWED: &str = include_str!("../../../../../tests/fixtures/policy/allowed.json");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    list: Option<Vec<String>>,
    shell: Option<String>,
    #[serde(default)]
    why: String,
}

struct Bench {
    rules: Rules,
    target: Target,
    programs: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let config = config(RULES);
        let names = [
            "uptime",
            "df",
            "cat",
            "tail",
            "head",
            "ls",
            "systemctl",
            "journalctl",
            "echo",
            "grep",
            "touch",
            "printf",
            "find",
            "git",
            "ps",
        ];
        Self { rules: Rules::of(&config), target: config.targets[0].clone(), programs: recorder(&names) }
    }

    fn judge(&self, command: Command<'_>) -> Result<Allowed, Refused> {
        self.rules.judge(&Asked { backend: "ssh", target: Some(&self.target), command, cwd: None, env: &[] })
    }

    /// What is allowed arrives as one list, and does nothing else: no other program of this name is found, nothing is written.
    fn arrives_as(&self, allowed: &Allowed, args: &[String]) {
        let mut script = allowed.command.script();
        if args[0].starts_with('/') {
            // The path is judged; here its program is the one that tells what came.
            let name = self.programs.path().join("uptime").into_os_string().into_string().unwrap();
            script = quote::exec(&[std::slice::from_ref(&name), &args[1..]].concat()).unwrap();
        }
        for shell in shells() {
            let came = arrives(shell, &script, self.programs.path(), "C.UTF-8");
            let came: Vec<String> = came[1..].iter().map(|arg| String::from_utf8(arg.clone()).unwrap()).collect();
            assert_eq!(came, args[1..], "{shell:?} {args:?}");
        }
    }
}

fn cases(text: &str) -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(cases.iter().all(|case| case.list.is_some() != case.shell.is_some()));
    cases
}

#[test]
fn no_bypass_passes_as_a_line_or_as_a_list() {
    let bench = Bench::new();
    let cases = cases(REFUSED);
    let (mut counts, mut executed) = ((0, 0), 0);
    for Case { list, shell, why } in &cases {
        if let Some(args) = list {
            assert!(bench.judge(Command::List(args)).is_err(), "{why}: {args:?}");
            counts.0 += 1;
        }
        let Some(line) = shell else { continue };
        counts.1 += 1;
        let refused = bench.judge(Command::Shell(line)).expect_err(&format!("{why}: {line:?}"));
        assert!(!refused.message.contains(char::is_control) && !refused.hint.contains(char::is_control), "{refused:?}");
        // As one word, it is no program; as an argument, it is refused or it is an argument and nothing else.
        let whole = vec![line.clone()];
        assert!(bench.judge(Command::List(&whole)).is_err(), "{why}: {whole:?}");
        let split: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let words = |before: &[&str], last: String| before.iter().map(|word| (*word).to_owned()).chain([last]).collect::<Vec<_>>();
        let forms = [
            split,
            words(&["uptime"], line.clone()),
            words(&["echo"], line.clone()),
            words(&["systemctl", "status"], line.clone()),
            words(&["cat"], format!("/var/log/{line}")),
            words(&["tail", "-n"], line.clone()),
        ];
        for args in forms {
            if let Ok(allowed) = bench.judge(Command::List(&args)) {
                assert_eq!(allowed.command.args(), Some(&args[..]));
                bench.arrives_as(&allowed, &args);
                executed += 1;
            }
        }
    }
    assert!(executed >= 100, "only {executed} lines were given to an allowed program");
    assert!(counts.0 >= 70 && counts.1 >= 70, "{counts:?}");
    let left: Vec<_> = std::fs::read_dir(bench.programs.path()).unwrap().collect();
    assert_eq!(left.len(), 15, "nothing was written: {left:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    /// Whatever stands where a wildcard of a line is: it is refused, or a shell sees one word in it, the very same.
    #[test]
    fn no_text_in_the_place_of_a_wildcard_is_seen_by_a_shell(text in "[a-zA-Z0-9_.,:@%+/=~#!?*$`'\"\\\\;&|<>(){}\\[\\]^ \t\n\r\u{a0}\u{3000}ß-]{0,6}") {
        thread_local! { static BENCH: Bench = Bench::new(); }
        BENCH.with(|bench| {
            for line in [format!("systemctl status {text}"), format!("cat /var/log/{text}")] {
                if let Ok(allowed) = bench.judge(Command::Shell(&line)) {
                    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
                    assert_eq!(words.len(), line.split_whitespace().count(), "{line:?}");
                    assert!(words.iter().skip(1).all(|word| !word.starts_with('-')), "{line:?}");
                    bench.arrives_as(&allowed, &words);
                }
            }
        });
    }
}

#[test]
fn what_is_harmless_arrives_byte_for_byte() {
    let bench = Bench::new();
    let cases = cases(ALLOWED);
    for case in &cases {
        match (&case.list, &case.shell) {
            (Some(args), _) => {
                let allowed = bench.judge(Command::List(args)).unwrap_or_else(|refused| panic!("{args:?}: {refused}"));
                bench.arrives_as(&allowed, args);
            }
            (_, Some(line)) => {
                let allowed = bench.judge(Command::Shell(line)).unwrap_or_else(|refused| panic!("{line:?}: {refused}"));
                assert_eq!(allowed.command.script(), line.as_bytes());
            }
            _ => unreachable!(),
        }
    }
    assert!(cases.iter().filter(|case| case.list.is_some()).count() >= 40);
}
