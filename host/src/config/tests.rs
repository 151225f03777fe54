mod errors;
mod remote;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::*;

const EXAMPLE: &str = include_str!("../../../falconer.example.toml");
const FILE: &str = "/etc/falconer/falconer.toml";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Some(Utf8Path::new(FILE)), &Overrides::at_home("/home/u"))
}

/// The errors of a text, as a person sees them, without the name of the file.
fn errors(text: &str) -> String {
    parse(text).unwrap_err().to_string().replace("/etc/falconer/", "")
}

fn defaults_at_home() -> Config {
    Config::parse("", None, &Overrides::at_home("/home/u")).unwrap()
}

#[test]
fn no_file_means_the_defaults() {
    let home = tempfile::tempdir().unwrap();
    let home = Utf8PathBuf::from_path_buf(home.path().to_owned()).unwrap();
    let config = Config::read(&Overrides::at_home(home.clone())).unwrap();
    assert_eq!(config.file, None);
    assert_eq!(config.data_dir, home.join(".local/share/falconer"));
    assert_eq!(config.plugins_dir, home.join(".local/share/falconer/plugins"));
    assert_eq!(config.path[0], home.join(".local/bin"));
    assert_eq!(config.backends.keys().collect::<Vec<_>>(), ["claude", "codex", "exec", "ssh"]);
    assert_eq!(config.digest.len(), 64);
    let exec = config.backend("exec");
    assert_eq!(exec.grants, Grants::default());
    let other = config.backend("third-party");
    assert!(other.enabled && other.allow.is_empty() && other.grants == Grants::default());
    let claude = config.backend("claude");
    assert_eq!(claude.grants.programs["claude"], ProgramGrant::any("claude"));
    assert_eq!(claude.limits.wall, Duration::from_secs(12 * 3600));
    assert_eq!(
        claude.allow["permission_mode"],
        Allow::OneOf(vec!["ask".into(), "accept_edits".into(), "plan".into(), "never_ask_deny".into()])
    );
}

#[test]
fn codex_has_the_least_it_needs() {
    let config = defaults_at_home();
    let codex = config.backend("codex");
    assert_eq!(codex.grants.programs["codex"], ProgramGrant::any("codex"));
    assert_eq!(codex.grants.secrets.keys().collect::<Vec<_>>(), ["CODEX_API_KEY", "OPENAI_API_KEY"]);
    assert_eq!(codex.limits.memory, config.backend("claude").limits.memory);
    assert_eq!(codex.allow["sandbox"], Allow::OneOf(vec!["read_only".into(), "workspace_write".into()]));
    assert!(!codex.allow.contains_key("settings") && !codex.allow.contains_key("mcp_catalog"));
}

#[test]
fn the_file_is_found_by_argument_then_at_home() {
    let dir = tempfile::tempdir().unwrap();
    let home = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    let default = home.join(".config/falconer/falconer.toml");
    std::fs::create_dir_all(default.parent().unwrap()).unwrap();
    std::fs::write(&default, "[host]\nruns = 3\n").unwrap();
    let other = home.join("other.toml");
    std::fs::write(&other, "data_dir = \"state\"\n[host]\nruns = 4\n").unwrap();

    let at_home = Config::read(&Overrides::at_home(home.clone())).unwrap();
    assert_eq!((at_home.host.runs, at_home.file), (3, Some(default)));
    let named = Overrides { config: Some(other.clone()), ..Overrides::at_home(home.clone()) };
    let config = Config::read(&named).unwrap();
    assert_eq!((config.host.runs, config.file.as_ref()), (4, Some(&other)));
    assert_eq!(config.data_dir, home.join("state"), "relative to the file");
    assert_eq!(config.plugins_dir, home.join("state/plugins"), "below the data directory");

    let given = Overrides { data_dir: Some("/d".into()), plugins: Some("/p".into()), ..named.clone() };
    let config = Config::read(&given).unwrap();
    assert_eq!((config.data_dir, config.plugins_dir), ("/d".into(), "/p".into()), "what is given goes before the file");

    std::fs::remove_file(&other).unwrap();
    let gone = Config::read(&named).unwrap_err().to_string();
    assert_eq!(
        gone,
        format!(
            "error: {other}: no such file\n  hint: name a file that is there with --config or FALCONER_CONFIG, or name none: then the defaults hold"
        )
    );
    let directory = Overrides { config: Some(home.clone()), ..Overrides::at_home(home.clone()) };
    assert!(Config::read(&directory).unwrap_err().to_string().contains("not a regular file"));
    std::fs::write(&other, b"path = \"\xff\"").unwrap();
    assert!(Config::read(&named).unwrap_err().to_string().contains("other.toml: not UTF-8"));
    std::fs::write(&other, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(Config::read(&named).unwrap_err().to_string().contains("larger than 1 MiB"));
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
data_dir = "~/state"
plugins_dir = "/srv/plugins"
path = ["~/bin", "/bin"]
[client]
cwd_is_workspace = false
[stop]
ask = "1s"
terminate = "2s"
drain = "300ms"
prove = "4s"
[host]
runs = 1
queued = 2
fan_out = 3
depth = 0
question = "5m"
call = "6s"
cgroup = "off"
[profiles]
reviewer = { file = "r.md" }
brief = { text = "Be brief." }
[backends.exec]
enabled = false
digest = "SHA256:AB"
config = { lines = true, depth = 3, ratio = 0.5, list = [1, "a"], map = { z = 1, a = 2 } }
[backends.exec.grants]
programs = { sh = "/bin/sh", make = "make", mine = "~/bin/mine", rel = "./tool", git = { path = "git", first = ["-P"], allow = ['[a-z]+'], max_args = 3 } }
workspaces = ["~/src", "/work", "here"]
env = ["LANG", "CARGO_HOME"]
hosts = ["Build.example.org:443", "[::1]:22"]
secrets = { token = { env = "BUILD_TOKEN" }, file = { file = "~/t" }, cmd = { command = ["pass", "show"] } }
[backends.exec.allow]
program = ["sh", "make"]
stdin = false
extra = true
[backends.exec.limits]
runs = 1
wall = "2s"
idle = "3s"
memory = "4 MiB"
call_cpu = "50ms"
cpu = "6s"
events = 70
output = "80 KiB"
events_per_s = 90
children = 10
tree_memory = "2 GiB"
tree_processes = 500
tree_cpu = 1.5
[backends.mine.grants.env]
LANG = "C.UTF-8"
TERM = true
"#
        .replace("SHA256:AB", &format!("sha256:{}", "AB".repeat(32)))
        .as_str(),
    )
    .map_err(|errors| errors.to_string())
    .unwrap();
    assert_eq!(config.data_dir, "/home/u/state");
    assert_eq!(config.plugins_dir, "/srv/plugins");
    assert_eq!(config.path, ["/home/u/bin", "/bin"]);
    assert!(!config.client.cwd_is_workspace);
    let (s, ms) = (Duration::from_secs, Duration::from_millis);
    assert_eq!(config.stop, Stop { ask: s(1), terminate: s(2), drain: ms(300), prove: s(4) });
    assert_eq!(config.host, Host { runs: 1, queued: 2, fan_out: 3, depth: 0, question: s(300), call: s(6), cgroup: Cgroup::Off });
    assert_eq!(config.profiles["reviewer"], Profile::File("/etc/falconer/r.md".into()));
    assert_eq!(config.profiles["brief"], Profile::Text("Be brief.".into()));
    let exec = config.backend("exec");
    assert!(!exec.enabled);
    assert_eq!(exec.digest.as_deref(), Some("ab".repeat(32).as_str()));
    assert_eq!(
        Value::Object(exec.config.clone()),
        json!({"lines": true, "depth": 3, "ratio": 0.5, "list": [1, "a"], "map": {"a": 2, "z": 1}})
    );
    let programs = &exec.grants.programs;
    assert_eq!(programs["sh"], ProgramGrant::any("/bin/sh"));
    assert_eq!(programs["make"], ProgramGrant::any("make"));
    assert_eq!(programs["mine"], ProgramGrant::any("/home/u/bin/mine"));
    assert_eq!(programs["rel"], ProgramGrant::any("/etc/falconer/tool"));
    assert_eq!(
        programs["git"],
        ProgramGrant { program: "git".into(), first: vec!["-P".into()], allow: vec!["[a-z]+".into()], max_args: Some(3) }
    );
    assert_eq!(exec.grants.workspaces, ["/home/u/src", "/work", "/etc/falconer/here"]);
    assert_eq!(exec.grants.env, BTreeMap::from([("CARGO_HOME".into(), EnvSource::Client), ("LANG".into(), EnvSource::Client)]));
    assert_eq!(exec.grants.hosts, ["build.example.org:443", "[::1]:22"]);
    assert_eq!(exec.grants.secrets["token"], SecretSource::Env("BUILD_TOKEN".into()));
    assert_eq!(exec.grants.secrets["file"], SecretSource::File("/home/u/t".into()));
    assert_eq!(exec.grants.secrets["cmd"], SecretSource::Command(vec!["pass".into(), "show".into()]));
    assert_eq!(exec.allow["program"], Allow::OneOf(vec![json!("sh"), json!("make")]));
    assert_eq!((exec.allow.get("stdin"), exec.allow.get("extra")), (None, Some(&Allow::Any)));
    assert_eq!(
        exec.limits,
        Limits {
            runs: 1,
            wall: s(2),
            idle: Some(s(3)),
            memory: 4 << 20,
            call_cpu: ms(50),
            cpu: s(6),
            events: 70,
            output: 80 << 10,
            events_per_s: 90,
            children: 10,
            tree: TreeLimits { memory: Some(2 << 30), processes: Some(500), cpu: Some(units::Cpus::hundredths(150)) },
        }
    );
    let mine = config.backend("mine");
    assert_eq!(mine.grants.env, BTreeMap::from([("LANG".into(), EnvSource::Value("C.UTF-8".into())), ("TERM".into(), EnvSource::Client)]));
}

#[test]
fn the_example_states_the_defaults() {
    let example = parse(EXAMPLE).map_err(|errors| errors.to_string()).unwrap();
    let defaults = defaults_at_home();
    assert_eq!(example.digest, defaults.digest);
    assert_eq!(Config { file: None, ..example }, defaults);
}

#[test]
fn the_example_names_every_range() {
    use defaults::*;
    let line = |key: &str| {
        let found = EXAMPLE
            .lines()
            .map(|line| line.trim_start_matches('#'))
            .find(|line| line.starts_with(&format!("{key} = ")) && line.contains("  # "));
        found.unwrap_or_else(|| panic!("no line for {key}")).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let time = |key: &str, bound: Bound<Duration>| {
        let [default, least, most] = [bound.default, bound.least, bound.most].map(units::show_duration);
        assert!(line(key).ends_with(&format!("{default} {least} {most}")), "{} is not {default} {least} {most}", line(key));
    };
    time("ask", ASK);
    time("terminate", TERMINATE);
    time("drain", DRAIN);
    time("prove", PROVE);
    time("question", HOST_QUESTION);
    time("call", HOST_CALL);
    time("wall", WALL);
    time("call_cpu", CALL_CPU);
    time("cpu", CPU);
    let [least, most] = [IDLE.least, IDLE.most].map(units::show_duration);
    assert!(line("idle").ends_with(&format!("none {least} {most}")));
    let [least, most] = [TREE_MEMORY.least, TREE_MEMORY.most].map(units::show_size);
    assert!(line("tree_memory").ends_with(&format!("none {least} {most}")));
    assert!(line("tree_processes").ends_with(&format!("none {} {}", TREE_PROCESSES.least, TREE_PROCESSES.most)));
    assert!(line("tree_cpu").ends_with(&format!("none {} {}", TREE_CPU.least, TREE_CPU.most)));
    let count = |key: &str, bound: Bound<u64>| {
        assert!(line(key).ends_with(&format!("{} {} {}", bound.default, bound.least, bound.most)), "{}", line(key));
    };
    let small = |bound: Bound<u32>| Bound { default: bound.default.into(), least: bound.least.into(), most: bound.most.into() };
    count("queued", small(HOST_QUEUED));
    count("fan_out", small(HOST_FAN_OUT));
    count("depth", small(HOST_DEPTH));
    count("events", EVENTS);
    count("events_per_s", small(EVENTS_PER_S));
    count("children", small(CHILDREN));
    for (section, bound) in [("[host]", HOST_RUNS), ("[backends.exec.limits]", RUNS)] {
        let after = EXAMPLE.split_once(&format!("\n{section}\n")).unwrap().1.lines().next().unwrap();
        let words = after.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.ends_with(&format!("{} {} {}", bound.default, bound.least, bound.most)), "{words}");
    }
    for (key, bound) in [("memory", MEMORY), ("output", OUTPUT)] {
        let [default, least, most] = [bound.default, bound.least, bound.most].map(units::show_size);
        assert!(line(key).ends_with(&format!("{default} {least} {most}")), "{}", line(key));
    }
}

#[test]
fn every_example_in_the_example_can_be_uncommented() {
    // Where an example stands beside the default of the same key, the example takes its place.
    let mut lines: Vec<String> = Vec::new();
    let mut section_start = 0;
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix('#').filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '['));
        let text = bare.unwrap_or(line);
        if text.starts_with('[') {
            section_start = lines.len();
        }
        if let (Some(text), Some((key, _))) = (bare, text.split_once(" = ")) {
            let same = |earlier: &String| !text.starts_with('[') && earlier.starts_with(&format!("{key} = "));
            if let Some(at) = lines[section_start..].iter().position(same) {
                lines.remove(section_start + at);
            }
        }
        lines.push(text.to_owned());
    }
    let text = lines.join("\n");
    let config = parse(&text).map_err(|errors| errors.to_string()).unwrap();
    let exec = config.backend("exec");
    assert_eq!(exec.grants.programs.keys().collect::<Vec<_>>(), ["git", "make", "sh"]);
    assert_eq!(exec.grants.secrets.len(), 3);
    assert_eq!(exec.limits.idle, Some(Duration::from_secs(900)));
    assert_eq!(config.profiles.len(), 2);
    assert_eq!(config.backend("mybackend").config["greeting"], json!("hello"));
    assert_eq!((config.targets.len(), config.tags.len(), config.rules.len()), (2, 1, 4));
    assert!(config.network.allow.is_some() && config.network.block.len() == 1);
}

#[test]
fn grants_go_over_the_defaults_and_false_takes_away() {
    let config = parse(
        "[backends.claude.grants]\nprograms = { git = 'git' }\nenv = { FOO = 'x', HTTP_PROXY = false }\nsecrets = { ANTHROPIC_AUTH_TOKEN = false }\n[backends.claude.allow]\nmodel = ['haiku']\neffort = false\n",
    )
    .unwrap();
    let claude = config.backend("claude");
    assert_eq!(claude.grants.programs.keys().collect::<Vec<_>>(), ["claude", "git"]);
    assert_eq!(claude.grants.env["FOO"], EnvSource::Value("x".into()));
    assert_eq!(claude.grants.env["HOME"], EnvSource::Client);
    assert!(!claude.grants.env.contains_key("HTTP_PROXY"));
    assert_eq!(claude.grants.secrets.len(), 2);
    assert_eq!(claude.allow["model"], Allow::OneOf(vec!["haiku".into()]));
    assert!(!claude.allow.contains_key("effort") && claude.allow.contains_key("max_turns"));
    let without = parse("[backends.claude.grants]\nprograms = { claude = false }\n").unwrap();
    assert!(without.backend("claude").grants.programs.is_empty());
}

#[test]
fn the_digest_is_of_the_meaning() {
    let one = parse("[host]\nruns = 3\n[backends.x]\nconfig = { b = 1, a = { d = 1, c = 2 } }\n").unwrap();
    let same =
        parse("# more\n[backends.x]\nconfig = { a = { c = 2, d = 1 }, b = 0x1 }\n[host]\nruns = 3 # three\nqueued = 1000\n").unwrap();
    assert_eq!(one.digest, same.digest);
    let elsewhere = Config::parse("[host]\nruns = 3\n", Some("/other/f.toml".into()), &Overrides::at_home("/home/u")).unwrap();
    assert_eq!(elsewhere.digest, parse("[host]\nruns = 3\n").unwrap().digest, "the name of the file is no part of it");
    for text in ["[host]\nruns = 4\n", "[profiles.a]\ntext = 'x'\n", "[backends.exec.grants]\nenv = ['A']\n", "data_dir = '/x'\n"] {
        assert_ne!(parse(text).unwrap().digest, defaults_at_home().digest, "{text}");
    }
    let other_home = Config::parse("", None, &Overrides::at_home("/home/v")).unwrap();
    assert_ne!(other_home.digest, defaults_at_home().digest);
}

#[test]
fn a_profile_is_named_or_the_near_one_is() {
    let config = parse("[profiles.reviewer]\ntext = 'Be strict.'\n").unwrap();
    assert_eq!(config.instructions("reviewer").unwrap(), "Be strict.");
    let near = config.instructions("reviwer").unwrap_err();
    assert_eq!((near.message.as_str(), near.hint.as_deref()), ("no profile is called `reviwer`", Some("did you mean `reviewer`?")));
    assert_eq!(config.instructions("x").unwrap_err().hint.as_deref(), Some("known: reviewer"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever a person does to the file: an answer or an error with a place, never a panic.
    #[test]
    fn no_edit_of_the_example_breaks_the_reader(at in 0usize..EXAMPLE.len(), cut in 0usize..40, put in "[\\PC\n\t\0\"'=.{}\\[\\]#]{0,6}") {
        let (start, end) = (EXAMPLE.floor_char_boundary(at), EXAMPLE.floor_char_boundary((at + cut).min(EXAMPLE.len())));
        let text = format!("{}{put}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
        match parse(&text) {
            Ok(config) => proptest::prop_assert_eq!(config.digest.len(), 64),
            Err(errors) => {
                proptest::prop_assert!(!errors.0.is_empty());
                let shown = errors.to_string();
                proptest::prop_assert!(shown.starts_with("error: "));
                proptest::prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{:?}", shown);
            }
        }
    }
}
