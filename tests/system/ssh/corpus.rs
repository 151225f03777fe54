//! The corpus in `tests/fixtures/policy` over real ssh: what is bad executes nothing anywhere, what is harmless arrives byte for byte.
//!
//! At the far ends, which differ in their login shells, every program's name stands for a script that writes down that it ran and
//! says its arguments. Runs may set PATH to where those scripts are, and to nothing else, so that whatever a shell took for a
//! command would be found in the list of what ran.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::host::Host;
use crate::sshd::server::executable;
use crate::sshd::{Configuration, Setup, Shell, Sshd, Target, available};

const RULES: &str = include_str!("../../fixtures/policy/falconer.toml");
const REFUSED: &str = include_str!("../../fixtures/policy/refused.json");
const ALLOWED: &str = include_str!("../../fixtures/policy/allowed.json");

/// Programs that rules allow, and some that nobody may run.
const PROGRAMS: &[&str] = &[
    "uptime",
    "whoami",
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
    "sort",
    "id",
    "sh",
    "bash",
    "env",
    "sudo",
    "nohup",
    "xargs",
    "busybox",
    "evil",
    "b",
    "Systemctl",
    "UPTIME",
    "deploy",
    "a",
];

/// Runs at once: more would only wait for this machine.
const SIDE_BY_SIDE: usize = 6;

#[derive(Debug, Deserialize)]
struct Case {
    list: Option<Vec<String>>,
    shell: Option<String>,
    #[serde(default)]
    why: String,
}

impl Case {
    fn all(text: &str) -> Vec<Self> {
        serde_json::from_str(text).unwrap()
    }
    fn config(&self) -> Value {
        match (&self.list, &self.shell) {
            (Some(list), None) => json!({ "command": list }),
            (None, Some(line)) => json!({ "shell": line }),
            _ => panic!("{self:?}"),
        }
    }
}

/// Far ends with each of the login shells, under the corpus' rules.
struct Bench {
    client: Client,
    _host: Host,
    sshds: Vec<Sshd>,
    programs: TempDir,
}

impl Bench {
    fn new(test: &str) -> Option<Self> {
        if !available(test) {
            return None;
        }
        let programs = tempfile::Builder::new().prefix("falconer-corpus-").tempdir().unwrap();
        let ran = programs.path().join("ran");
        let recorder = |name: &str| {
            // `printf` is the shell's own. One line of digits for all arguments, each ended by a NUL.
            format!(
                "#!/bin/sh\nprintf '%s\\n' '{name}' >>'{}'\n[ $# = 0 ] || printf '%s\\0' \"$@\" | /usr/bin/od -An -v -tx1 | /usr/bin/tr -d ' \\n'\n",
                ran.display()
            )
        };
        for name in PROGRAMS {
            executable(&programs.path().join(name), &recorder(name));
        }
        let shells = Shell::ALL.into_iter().filter(|shell| shell.is_here(test));
        let sshds: Vec<Sshd> = shells.map(|shell| Setup::new().shell(shell).program("deploy", &recorder("deploy")).start()).collect();
        let mut configuration = Configuration::new();
        for (number, sshd) in sshds.iter().enumerate() {
            configuration = configuration.target(Target::of(&format!("far-{number}"), sshd).tags(&["web"]));
        }
        // The same rules, which let a run say where programs are; whom they deny does not change.
        let rules = RULES.replace("tags = [\"web\"]\nallow", "tags = [\"web\"]\nenv = [\"PATH\"]\nallow");
        let rules = rules.replace("tags = [\"web\"]\nshell", "tags = [\"web\"]\nenv = [\"PATH\"]\nshell");
        assert_eq!(rules.matches("env = [\"PATH\"]").count(), 3);
        let host = Host::bare(configuration.table(&rules).text());
        Some(Self { client: host.client(), _host: host, sshds, programs })
    }

    fn request(&self, number: usize, mut config: Value) -> Value {
        config["env"] = json!({ "PATH": self.programs.path() });
        json!({ "backend": "ssh", "target": format!("far-{}", number % self.sshds.len()), "config": config })
    }

    /// All of them to their ends, some side by side; what each said on stdout.
    fn run(&self, configs: &[Value]) -> Vec<String> {
        let numbered: Vec<(usize, &Value)> = configs.iter().enumerate().collect();
        let mut said = Vec::new();
        for some in numbered.chunks(SIDE_BY_SIDE) {
            let runs: Vec<String> =
                some.iter().map(|(number, config)| self.client.spawn(self.request(*number, (*config).clone()))).collect();
            for (run, (number, config)) in runs.iter().zip(some) {
                let view = self.client.ended(run);
                assert_eq!(view["status"], "completed", "{config} {view:#}\n{}", self.sshds[number % self.sshds.len()].log());
                assert_eq!(self.output(run, "stderr"), "", "{config}");
                said.push(self.output(run, "stdout"));
            }
        }
        said
    }

    fn output(&self, run: &str, stream: &str) -> String {
        let events = self.client.events(run);
        let of = events.iter().filter(|event| event["type"] == "command_output" && event["data"]["stream"] == stream);
        of.map(|event| event["data"]["text"].as_str().unwrap()).collect()
    }

    /// How often each program ran, at all far ends.
    fn ran(&self) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(self.programs.path().join("ran")).unwrap_or_default();
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Nothing was written there, and nothing goes on.
    fn nothing_is_left(&self) {
        for sshd in &self.sshds {
            for user in ["root", "far"] {
                let files: Vec<_> = fs::read_dir(sshd.home(user)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert!(files.is_empty(), "{files:?}");
            }
            sshd.until_empty();
        }
        let files = fs::read_dir(self.programs.path()).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != "ran").count();
        assert_eq!(files, PROGRAMS.len());
    }
}

/// What a script of the bench said it was given.
#[track_caller]
fn given(digits: &str) -> Vec<String> {
    assert!(digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{digits}");
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    let text = String::from_utf8(bytes).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn nothing_of_what_is_bad_executes() {
    let Some(bench) = Bench::new("the corpus over ssh") else { return };
    let cases = Case::all(REFUSED);
    for (number, case) in cases.iter().enumerate() {
        match bench.client.try_call("spawn_run", bench.request(number, case.config())) {
            Ok(run) => panic!("{}: {case:?}: {run}", case.why),
            Err(refusal) => {
                assert!(["not_allowed", "invalid_argument", "invalid_config"].contains(&refusal.code.as_str()), "{case:?}: {refusal:?}");
                assert!(!refusal.message.contains("may not choose"), "it is to be refused for what it says: {refusal:?}");
                assert!(!refusal.message.contains(char::is_control) && !refusal.retryable, "{case:?}: {refusal:?}");
            }
        }
    }
    assert!(cases.len() >= 200);
    assert_eq!(bench.client.call("list_runs", json!({}))["runs"], json!([]), "none of them became a run");
    assert_eq!(bench.ran(), BTreeMap::new());
    // Not even a connection was made: what is refused is refused here.
    assert!(bench.sshds.iter().all(|sshd| !sshd.log().contains("Connection from")));
    bench.nothing_is_left();

    // As arguments of a program that may be told anything they are words, whatever the login shell.
    let words: Vec<String> =
        cases.into_iter().filter_map(|case| case.shell).filter(|line| !line.contains(['\0']) && !line.contains("shadow")).collect();
    assert!(words.len() >= 100);
    let command = json!({ "command": ([&["echo".to_owned()], words.as_slice()].concat()) });
    for said in bench.run(&vec![command; bench.sshds.len()]) {
        assert_eq!(given(&said), words);
    }
    assert_eq!(bench.ran(), BTreeMap::from([("echo".to_owned(), bench.sshds.len())]));
    bench.nothing_is_left();
}

#[test]
fn what_is_harmless_arrives_byte_for_byte() {
    let Some(bench) = Bench::new("what is harmless over ssh") else { return };
    let cases = Case::all(ALLOWED);
    let mut expected = BTreeMap::<String, usize>::new();
    let said = bench.run(&cases.iter().map(Case::config).collect::<Vec<_>>());
    for (case, said) in cases.iter().zip(said) {
        if let Some(list) = &case.list {
            assert_eq!(given(&said), list[1..], "{case:?}");
            *expected.entry(list[0].rsplit('/').next().unwrap().to_owned()).or_default() += 1;
        }
        for part in case.shell.iter().flat_map(|line| line.split(" | ")) {
            let words: Vec<String> = part.split(' ').map(|word| word.replace(['"', '\''], "")).collect();
            // In a line, `echo` is the shell's own.
            if words[0] == "echo" {
                assert_eq!(said, format!("{}\n", words[1..].join(" ")), "{case:?}");
                continue;
            }
            *expected.entry(words[0].clone()).or_default() += 1;
            if case.shell.as_ref().unwrap().ends_with(part) {
                assert_eq!(given(&said), words[1..], "{case:?}");
            }
        }
    }
    assert!(cases.iter().filter(|case| case.list.is_some()).count() >= 40);
    assert_eq!(bench.ran(), expected, "each ran once, and nothing else did");

    // All the hard words at once, for each of the login shells.
    let words: Vec<String> =
        cases.into_iter().filter_map(|case| case.list).filter(|list| list[0] == "echo").flat_map(|list| list[1..].to_vec()).collect();
    let command = json!({ "command": ([&["echo".to_owned()], words.as_slice()].concat()) });
    for said in bench.run(&vec![command; bench.sshds.len()]) {
        assert_eq!(given(&said), words);
    }
    bench.nothing_is_left();
}

#[test]
fn any_list_that_is_allowed_arrives_exactly() {
    let Some(bench) = Bench::new("any list over ssh") else { return };
    let hard = "[a-z0-9 \t\n\r\u{1}\u{7f}~#!?*$`'\"\\\\;&|<>(){}\\[\\]^=%+,.:@/é日\u{1f600}\u{a0}\u{202e}-]{0,12}";
    let any = any::<String>().prop_map(|text| text.replace('\0', ""));
    let word = prop_oneof![3 => hard, 1 => any, 1 => "-[a-zA-Z-]{0,4}"].prop_filter("a rule denies it", |word| !word.contains("shadow"));
    let lists = prop::collection::vec(prop::collection::vec(word, 0..60), SIDE_BY_SIDE);
    let mut runner = TestRunner::new(Config { cases: 4, failure_persistence: None, max_shrink_iters: 20, ..Config::default() });
    let result = runner.run(&lists, |lists| {
        let commands: Vec<Value> =
            lists.iter().map(|list| json!({ "command": ([&["echo".to_owned()], list.as_slice()].concat()) })).collect();
        for (list, said) in lists.iter().zip(bench.run(&commands)) {
            prop_assert_eq!(&given(&said), list);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(bench.ran().keys().collect::<Vec<_>>(), ["echo"]);
    bench.nothing_is_left();
}
