//! Every default and every range, in one place. `falconer.example.toml` states the same; a test holds the two together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::units::Cpus;
use super::{Allow, Backend, Cgroup, Client, EnvSource, Grants, Host, Limits, ProgramGrant, SecretSource, Stop, TreeLimits};

/// A default, and between what a file may put it.
#[derive(Debug, Clone, Copy)]
pub struct Bound<T> {
    /// Without a word in the file.
    pub default: T,
    /// The least that is taken.
    pub least: T,
    /// The most that is taken.
    pub most: T,
}

const fn bound<T>(default: T, least: T, most: T) -> Bound<T> {
    Bound { default, least, most }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
const fn s(count: u64) -> Duration {
    Duration::from_secs(count)
}
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where programs are looked for. `~` is expanded as in the file. Not the client's PATH: two clients must mean the same program.
pub const PATH: &[&str] = &["~/.local/bin", "/usr/local/bin", "/usr/bin", "/bin"];

/// `[stop] ask`: a polite agent needs a second or two to write its last line.
pub const ASK: Bound<Duration> = bound(s(5), s(0), s(10 * MINUTE));
/// `[stop] terminate`
pub const TERMINATE: Bound<Duration> = bound(s(5), s(0), s(10 * MINUTE));
/// `[stop] drain`
pub const DRAIN: Bound<Duration> = bound(ms(200), s(0), s(10));
/// `[stop] prove`
pub const PROVE: Bound<Duration> = bound(s(5), ms(100), s(60));

/// `[network] connect`: some machines look up who calls before they say a word.
pub const CONNECT: Bound<Duration> = bound(s(15), s(1), s(5 * MINUTE));

/// `[host] runs`
pub const HOST_RUNS: Bound<u32> = bound(64, 1, 100_000);
/// `[host] queued`
pub const HOST_QUEUED: Bound<u32> = bound(1_000, 0, 1_000_000);
/// `[host] fan_out`: enough to be done soon, few enough to look at when something goes wrong.
pub const HOST_FAN_OUT: Bound<u32> = bound(10, 1, 100);
/// `[host] depth`
pub const HOST_DEPTH: Bound<u32> = bound(3, 0, 3);
/// `[host] question`: a person is asked; a quarter of an hour is a coffee, not a holiday.
pub const HOST_QUESTION: Bound<Duration> = bound(s(15 * MINUTE), s(1), s(7 * DAY));
/// `[host] call`
pub const HOST_CALL: Bound<Duration> = bound(s(5), ms(10), s(60));

/// `[host] cgroup`
pub const CGROUP: Cgroup = Cgroup::Auto;

/// `limits.runs`
pub const RUNS: Bound<u32> = bound(16, 1, 100_000);
/// `limits.wall`: long enough for a build; agents have [`AGENT_WALL`].
pub const WALL: Bound<Duration> = bound(s(2 * HOUR), s(1), s(30 * DAY));
/// `limits.wall` of `claude` and `codex`: an agent works for hours, and a forgotten one is ended before the next working day.
pub const AGENT_WALL: Duration = s(12 * HOUR);
/// `limits.idle`: none without a word, because a silent compiler is at work too. The default here stands for nothing.
pub const IDLE: Bound<Duration> = bound(s(0), s(1), s(30 * DAY));
/// `limits.memory`
pub const MEMORY: Bound<u64> = bound(64 * MIB, MIB, 4 * GIB);
/// `limits.memory` of `claude` and `codex`: an agent's messages are large.
pub const AGENT_MEMORY: u64 = 256 * MIB;
/// `limits.call_cpu`: a call parses some 100 KiB in a millisecond; two seconds is a loop.
pub const CALL_CPU: Bound<Duration> = bound(s(2), ms(10), s(60));
/// `limits.cpu`
pub const CPU: Bound<Duration> = bound(s(10 * MINUTE), ms(100), s(7 * DAY));
/// `limits.events`
pub const EVENTS: Bound<u64> = bound(1_000_000, 10, 100_000_000);
/// `limits.output`: a program that prints 1 GiB still fits with what its events add.
pub const OUTPUT: Bound<u64> = bound(2 * GIB, 64 << 10, 1 << 40);
/// `limits.events_per_s`
pub const EVENTS_PER_S: Bound<u32> = bound(100_000, 10, 10_000_000);
/// `limits.children`
pub const CHILDREN: Bound<u32> = bound(8, 0, 1_000);
/// `limits.tree_memory`: none without a word. The default here stands for nothing, as in the two that follow.
pub const TREE_MEMORY: Bound<u64> = bound(0, MIB, 64 << 40);
/// `limits.tree_processes`: none without a word; the kernel itself has no more (proc_sys_kernel(5), `pid_max`).
pub const TREE_PROCESSES: Bound<u32> = bound(0, 1, 4_194_304);
/// `limits.tree_cpu`: none without a word. Less than the least would make a program that starts look as if it hung.
pub const TREE_CPU: Bound<Cpus> = bound(Cpus::hundredths(0), Cpus::hundredths(5), Cpus::hundredths(102_400));
/// `max_args` of a program
pub const MAX_ARGS: Bound<u32> = bound(4_096, 0, 4_096);

/// What the environment of `claude` is made of: its home and its login, the language, the way out to the net.
const CLAUDE_ENV: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "USER",
    "LOGNAME",
    "SHELL",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "CLAUDE_CONFIG_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
];
/// Any one of them is a login.
const CLAUDE_SECRETS: &[&str] = &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/// What a run may choose freely. Directories must lie in a workspace and servers in the operator's catalog; a limit that is not to be
/// raised is set in the configuration and taken from this list.
const CLAUDE_KEYS: &[&str] = &["model", "effort", "max_turns", "max_tokens", "max_budget_usd", "add_dirs", "mcp_servers"];
/// The modes that do not do away with the questions.
const CLAUDE_MODES: &[&str] = &["ask", "accept_edits", "plan", "never_ask_deny"];
/// The grant of programs is the fence of `exec`; what is called within it is the run's own choice.
const EXEC_KEYS: &[&str] = &["program", "args", "stdin", "env", "cwd", "lines"];
/// What the environment of `codex` is made of: its home and its login, the language, the way out to the net.
const CODEX_ENV: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "USER",
    "LOGNAME",
    "SHELL",
    "CODEX_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "CODEX_CA_CERTIFICATE",
];
/// Either one is a login.
const CODEX_SECRETS: &[&str] = &["CODEX_API_KEY", "OPENAI_API_KEY"];
/// The modes that do not do away with the questions.
const CODEX_MODES: &[&str] = &["ask", "accept_edits", "plan", "never_ask_deny"];
/// What still is a sandbox.
const CODEX_SANDBOXES: &[&str] = &["read_only", "workspace_write"];
/// What else a run of `codex` may choose. Directories lie in granted workspaces, servers are named out of the operator's catalogue.
const CODEX_KEYS: &[&str] = &["model", "effort", "max_turns", "max_tokens", "add_dirs", "mcp_servers"];

/// What a run of `ssh` may choose. The command rule is the fence: what is executed, where, in which directory and environment.
const SSH_KEYS: &[&str] = &["command", "shell", "cwd", "env", "stdin", "detach", "link_timeout_s"];
/// What ssh(1) is given of its user's environment: the home with the keys, and the agent.
const SSH_ENV: &[&str] = &["HOME", "SSH_AUTH_SOCK"];
/// All that ssh(1) is told: the host's own configuration file and nothing of the user's (`-F`), where to say what it has to say itself
/// (`-E`), no terminal (`-T`), and after `--` nothing that it takes for an option.
const SSH_FIRST: &[&str] = &["-F", "{config}", "-E", "{log}", "-T", "{args}", "--", "{target}", "{command}"];
/// What the component may add: compression.
const SSH_ALLOW: &[&str] = &["-C"];

/// The backends that are inside the program.
pub const BUNDLED: &[&str] = &["claude", "codex", "exec", "ssh"];

/// `[client]`
pub const fn client() -> Client {
    Client { cwd_is_workspace: true }
}

/// `[stop]`
pub const fn stop() -> Stop {
    Stop { ask: ASK.default, terminate: TERMINATE.default, drain: DRAIN.default, prove: PROVE.default }
}

/// `[host]`
pub const fn host() -> Host {
    Host {
        runs: HOST_RUNS.default,
        queued: HOST_QUEUED.default,
        fan_out: HOST_FAN_OUT.default,
        depth: HOST_DEPTH.default,
        question: HOST_QUESTION.default,
        call: HOST_CALL.default,
        cgroup: CGROUP,
    }
}

/// `[backends.NAME.limits]`
pub const fn limits() -> Limits {
    Limits {
        runs: RUNS.default,
        wall: WALL.default,
        idle: None,
        memory: MEMORY.default,
        call_cpu: CALL_CPU.default,
        cpu: CPU.default,
        events: EVENTS.default,
        output: OUTPUT.default,
        events_per_s: EVENTS_PER_S.default,
        children: CHILDREN.default,
        tree: TreeLimits { memory: None, processes: None, cpu: None },
    }
}

/// What a backend has without a word in the file: a bundled one the least it needs, any other nothing.
#[must_use]
pub fn backend(name: &str) -> Backend {
    match name {
        "exec" => Backend { allow: EXEC_KEYS.iter().map(|key| ((*key).to_owned(), Allow::Any)).collect(), ..plain() },
        "claude" => agent("claude", CLAUDE_ENV, CLAUDE_SECRETS, CLAUDE_KEYS, &[("permission_mode", CLAUDE_MODES)]),
        "codex" => agent("codex", CODEX_ENV, CODEX_SECRETS, CODEX_KEYS, &[("permission_mode", CODEX_MODES), ("sandbox", CODEX_SANDBOXES)]),
        "ssh" => ssh(),
        _ => plain(),
    }
}

/// OpenSSH's client, which executes, forwards and includes nothing but by the host's own hand.
fn ssh() -> Backend {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let program = ProgramGrant { program: "ssh".into(), first: words(SSH_FIRST), allow: words(SSH_ALLOW), max_args: Some(1) };
    Backend {
        grants: Grants {
            programs: BTreeMap::from([("ssh".to_owned(), program)]),
            env: SSH_ENV.iter().map(|name| ((*name).to_owned(), EnvSource::Client)).collect(),
            ..Grants::default()
        },
        allow: SSH_KEYS.iter().map(|key| ((*key).to_owned(), Allow::Any)).collect(),
        ..plain()
    }
}

/// A backend without a word.
fn plain() -> Backend {
    Backend {
        enabled: true,
        digest: None,
        config: serde_json::Map::new(),
        grants: Grants::default(),
        allow: BTreeMap::new(),
        limits: limits(),
    }
}

/// A coding agent: its own program, its environment and keys, any value of these `keys`, and of the `choices` one that is listed.
fn agent(program: &str, env: &[&str], secrets: &[&str], keys: &[&str], choices: &[(&str, &[&str])]) -> Backend {
    let mut allow: BTreeMap<String, Allow> = keys.iter().map(|key| ((*key).to_owned(), Allow::Any)).collect();
    for (key, values) in choices {
        allow.insert((*key).to_owned(), Allow::OneOf(values.iter().map(|value| (*value).into()).collect()));
    }
    Backend {
        grants: Grants {
            programs: BTreeMap::from([(program.to_owned(), ProgramGrant::any(program))]),
            env: env.iter().map(|name| ((*name).to_owned(), EnvSource::Client)).collect(),
            secrets: secrets.iter().map(|name| ((*name).to_owned(), SecretSource::Env((*name).to_owned()))).collect(),
            ..Grants::default()
        },
        allow,
        limits: Limits { wall: AGENT_WALL, memory: AGENT_MEMORY, ..limits() },
        ..plain()
    }
}
