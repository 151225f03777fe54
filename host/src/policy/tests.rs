use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::*;
use crate::config::Overrides;
use crate::contract::falconer::backend::types as wit;

/// A home with what the tests need: `src/one`, `src/.hidden`, links in and out, data and plugins of our own.
struct World {
    _dir: tempfile::TempDir,
    top: Utf8PathBuf,
    home: Utf8PathBuf,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let top = Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let home = top.join("home");
    for path in ["src/one/deep", "src/.hidden", "other", ".ssh", ".local/share/falconer/plugins", "bin"] {
        std::fs::create_dir_all(home.join(path)).unwrap();
    }
    symlink(home.join("src"), home.join("work")).unwrap();
    symlink(home.join("other"), home.join("src/out")).unwrap();
    symlink(home.join("src/one"), home.join("other/in")).unwrap();
    std::fs::write(home.join("bin/tool"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(home.join("bin/tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(home.join("src/file"), "").unwrap();
    World { _dir: dir, top, home }
}

impl World {
    fn policy(&self, text: &str) -> Policy {
        let config = Config::parse(text, Some(&self.home.join(".config/falconer/falconer.toml")), &Overrides::at_home(self.home.clone()))
            .unwrap_or_else(|errors| panic!("{errors}"));
        Policy::resolve(&Arc::new(config))
    }
    fn at(&self, path: &str) -> String {
        self.home.join(path).into_string()
    }
}

fn spawn(program: &str, args: &[&str], cwd: Option<&str>) -> wit::PlannedAction {
    wit::PlannedAction::Spawn(wit::PlannedCommand {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).into()).collect(),
        cwd: cwd.map(Into::into),
        command: None,
    })
}

fn run(backend: &str) -> JudgedRun<'_> {
    JudgedRun { backend, client: None, target: None }
}

const WITH_WORK: &str = "[backends.exec.grants]\nworkspaces = ['~/work', '~/not-yet']\n";

#[test]
fn a_working_directory_lies_in_a_workspace_with_its_links_resolved() {
    let world = world();
    let policy = world.policy(WITH_WORK);
    let real = |asked: &str| policy.cwd("exec", Some(&world.at(asked)), None).map(|cwd| cwd.unwrap());
    // The workspace is itself a link; either name is inside.
    assert_eq!(real("work/one").unwrap(), world.home.join("src/one"));
    assert_eq!(real("src").unwrap(), world.home.join("src"));
    assert_eq!(real("src/one/deep/..").unwrap(), world.home.join("src/one"));
    assert_eq!(real("other/in").unwrap(), world.home.join("src/one"), "a link from outside to inside is inside");
    assert_eq!(real("src/.hidden").unwrap(), world.home.join("src/.hidden"), "granted by a person");
    // One that did not exist yet counts when it does.
    std::fs::create_dir(world.home.join("not-yet")).unwrap();
    assert_eq!(real("not-yet").unwrap(), world.home.join("not-yet"));
    for (asked, code) in [
        ("src/../other", code::CWD_NOT_GRANTED),
        ("src/out", code::CWD_NOT_GRANTED),
        ("src/out/..", code::CWD_NOT_GRANTED),
        ("other", code::CWD_NOT_GRANTED),
        ("", code::CWD_NOT_GRANTED),
        ("src-other", code::CWD_NOT_FOUND),
        ("src/missing", code::CWD_NOT_FOUND),
        ("src/file", code::CWD_NOT_FOUND),
        ("src/file/..", code::CWD_NOT_FOUND),
    ] {
        assert_eq!(real(asked).unwrap_err().code, code, "{asked}");
    }
    std::fs::create_dir(world.home.join("src-other")).unwrap();
    assert_eq!(real("src-other").unwrap_err().code, code::CWD_NOT_GRANTED, "a name that only begins alike is outside");
}

#[test]
fn a_refused_working_directory_says_what_to_do() {
    let world = world();
    let policy = world.policy(WITH_WORK);
    let fault = policy.cwd("exec", Some(&world.at("other")), None).unwrap_err();
    assert_eq!(fault.message, format!("cwd {0}/other lies in no workspace of `exec`; granted: {0}/src, {0}/not-yet", world.home));
    assert_eq!(
        fault.hint.unwrap(),
        format!(
            "take a directory inside one of these; or a person adds to the configuration, under [backends.exec.grants]: workspaces = [\"{}/other\"]",
            world.home
        )
    );
    let none = policy.cwd("third", Some(&world.at("src/out")), Some(&world.home.join("src/one"))).unwrap_err();
    assert!(none.message.contains(&format!("(which is {}/other)", world.home)), "{}", none.message);
    assert!(none.message.ends_with(&format!("granted: {}/src/one (the client's own)", world.home)), "{}", none.message);
    assert!(policy.cwd("third", Some("/"), None).unwrap_err().message.ends_with("none is granted"));
    for asked in ["", "src", "./src", "~/src", "/a\0b"] {
        assert_eq!(policy.cwd("exec", Some(asked), None).unwrap_err().code, code::INVALID_ARGUMENT, "{asked:?}");
    }
    let odd = policy.cwd("exec", Some("/none\u{1b}[2J"), None).unwrap_err();
    assert!(odd.code == code::CWD_NOT_FOUND && !odd.message.contains('\u{1b}'));
    assert_eq!(policy.cwd("exec", Some(&format!("/{}", "x".repeat(5000))), None).unwrap_err().code, code::INVALID_ARGUMENT);
}

#[test]
fn a_client_brings_its_own_directory_or_none() {
    let world = world();
    let policy = world.policy(WITH_WORK);
    let own = |path: &str| policy.client_workspace(&world.home.join(path));
    assert_eq!(own("other"), Some(world.home.join("other")));
    assert_eq!(own("src/out"), Some(world.home.join("other")), "resolved");
    for path in ["", ".ssh", "src/.hidden", ".local/share/falconer", ".local/share/falconer/plugins", "missing", "src/file", ".."] {
        assert_eq!(own(path), None, "{path}");
    }
    symlink("/etc", world.home.join("etc")).unwrap();
    symlink(world.home.join(".ssh"), world.home.join("keys")).unwrap();
    assert_eq!((own("etc"), own("keys"), own("src/../.ssh")), (None, None, None), "a link is judged by where it leads");
    assert_eq!(policy.client_workspace("other".into()), None);

    // It is the default, and what lies in it is inside; another client's is not.
    let client = world.home.join("other");
    assert_eq!(policy.cwd("third", None, Some(&client)).unwrap(), Some(client.clone()));
    std::fs::create_dir(client.join("below")).unwrap();
    assert_eq!(policy.cwd("third", Some(&world.at("other/below")), Some(&client)).unwrap(), Some(client.join("below")));
    assert_eq!(policy.cwd("third", Some(&world.at("other/below")), Some(&world.home.join("src"))).unwrap_err().code, code::CWD_NOT_GRANTED);
    // A client in a place that is no workspace by itself, but granted, has it as its default.
    assert_eq!(policy.cwd("exec", None, Some(&world.home.join("src/.hidden"))).unwrap(), Some(world.home.join("src/.hidden")));
    assert_eq!(policy.cwd("third", None, Some(&world.home.join("src/.hidden"))).unwrap(), None);
    assert_eq!(policy.cwd("third", None, Some(&world.home)).unwrap(), None);
    assert_eq!(policy.cwd("third", None, None).unwrap(), None);

    let off = world.policy("[client]\ncwd_is_workspace = false\n");
    assert_eq!(off.client_workspace(&client), None);
    assert_eq!(off.cwd("exec", None, Some(&client)).unwrap(), None);
}

#[test]
fn our_own_directories_are_no_workspace_even_in_a_granted_one() {
    let world = world();
    let policy = world
        .policy("[backends.exec.grants]\nworkspaces = ['~']\n[backends.inner.grants]\nworkspaces = ['~/.local/share/falconer/plugins']\n");
    assert!(policy.cwd("exec", Some(&world.at(".ssh")), None).is_ok(), "a person granted all of it");
    let fault = policy.cwd("exec", Some(&world.at(".local/share/falconer")), None).unwrap_err();
    assert_eq!(fault.code, code::CWD_NOT_GRANTED);
    assert!(fault.hint.unwrap().contains("falconer's own"));
    assert!(policy.cwd("inner", Some(&world.at(".local/share/falconer/plugins")), None).is_ok(), "granted by its name");
}

#[test]
fn the_directory_of_a_named_configuration_is_not_for_clients() {
    let world = world();
    let project = world.home.join("other");
    std::fs::create_dir(project.join("below")).unwrap();
    std::fs::write(project.join("falconer.toml"), "").unwrap();
    let config =
        Config::read(&Overrides { config: Some(project.join("falconer.toml")), ..Overrides::at_home(world.home.clone()) }).unwrap();
    let policy = Policy::resolve(&Arc::new(config));
    assert_eq!(policy.client_workspace(&project), None, "a run in it could change its own grants");
    assert_eq!(policy.client_workspace(&project.join("below")), Some(project.join("below")));
    symlink(project.join("falconer.toml"), world.home.join("src/falconer.toml")).unwrap();
    let linked =
        Config::read(&Overrides { config: Some(world.home.join("work/falconer.toml")), ..Overrides::at_home(world.home.clone()) }).unwrap();
    let policy = Policy::resolve(&Arc::new(linked));
    assert_eq!(policy.client_workspace(&project), None, "where the file is");
    assert_eq!(policy.client_workspace(&world.home.join("src")), None, "where the link is");
}

#[test]
fn programs_are_found_once_and_looked_for_again_while_missing() {
    let world = world();
    let policy = world.policy("path = ['~/bin']\n[backends.exec.grants]\nprograms = { tool = 'tool', late = 'late', sh = '/bin/sh' }\n");
    let grant = policy.grant("exec");
    assert_eq!(grant.programs["tool"].path, Ok(world.home.join("bin/tool")));
    assert_eq!(grant.programs["sh"].path, Ok("/bin/sh".into()));
    assert_eq!(grant.programs["late"].path, Err(format!("`late` is in none of {}/bin", world.home)));
    std::fs::copy(world.home.join("bin/tool"), world.home.join("bin/late")).unwrap();
    assert_eq!(policy.grant("exec").programs["late"].path, Ok(world.home.join("bin/late")));
    assert_eq!(grant.env["PATH"], EnvSource::Value(world.at("bin")));
    assert_eq!(grant.env["FALCONER_DATA_DIR"], EnvSource::Value(world.at(".local/share/falconer")));
    assert_eq!(grant.env["FALCONER_CONFIG"], EnvSource::Value(world.at(".config/falconer/falconer.toml")));
    assert_eq!(grant.env.len(), 4, "and nothing more");
    let own = world.policy("[backends.exec.grants]\nenv = { PATH = true }\n");
    assert_eq!(own.grant("exec").env["PATH"], EnvSource::Client, "a person said so");
    assert!(policy.grant("unnamed").programs.is_empty());
}

#[test]
fn a_plan_is_judged_by_the_grants() {
    let world = world();
    let policy = world.policy(
        "path = ['~/bin']\n[backends.exec.grants]\nworkspaces = ['~/src']\n[backends.exec.grants.programs]\ntool = { path = 'tool', first = ['-x'], allow = ['[a-z]+'], max_args = 2 }\ngone = '/nowhere/gone'\nsh = '/bin/sh'\n",
    );
    let judged = |action: &wit::PlannedAction| policy.judge(run("exec"), action);
    let good = judged(&spawn("tool", &["abc"], Some(&world.at("src/one"))));
    assert_eq!(
        good,
        Judgement {
            kind: "spawn",
            detail: json!({"program": "tool", "path": world.at("bin/tool"), "args": ["-x", "abc"], "cwd": world.at("src/one"), "command": null}),
            rule: "backends.exec.grants.programs.tool.allow".into(),
            refusal: None,
            far: None,
            address: None,
        }
    );
    let rule = |action: &wit::PlannedAction| {
        let judgement = judged(action);
        (judgement.refusal.is_none(), judgement.rule)
    };
    assert_eq!(rule(&spawn("sh", &["-c", "x"], None)), (true, "backends.exec.grants.programs.sh: any arguments".into()));
    for (action, part) in [
        (spawn("make", &[], None), "backends.exec.grants.programs: `make` is not granted"),
        (spawn("/bin/sh", &[], None), "`/bin/sh` is not granted"),
        (spawn("gone", &[], None), "/nowhere/gone does not exist"),
        (spawn("tool", &["abc", "--force"], None), "tool.allow: argument 2 matches no pattern"),
        (spawn("tool", &["a", "b", "c"], None), "max_args: 3 arguments, at most 2"),
        (spawn("sh", &[], Some(&world.at("other"))), "lies in no workspace of `exec`"),
        (spawn("sh", &[], Some("relative")), "`relative` is not absolute"),
        (wit::PlannedAction::Connect(wit::PlannedConnection { host: "a".into(), port: 1 }), "opens no connections"),
        (wit::PlannedAction::Request("https://a".into()), "opens no HTTP requests"),
        (
            wit::PlannedAction::Spawn(wit::PlannedCommand {
                program: "sh".into(),
                args: vec![],
                cwd: None,
                command: Some(wit::FarCommand { words: wit::FarWords::Args(vec!["ls".into()]), cwd: None, env: Vec::new() }),
            }),
            "neither `{command}` nor `{target}`",
        ),
    ] {
        let (allowed, rule) = rule(&action);
        assert!(!allowed && rule.contains(part), "{rule}");
    }
    assert!(policy.judge(run("third"), &spawn("sh", &[], None)).refusal.is_some());
}

#[test]
fn a_backend_that_is_turned_off_says_so() {
    let policy = world().policy("[backends.exec]\nenabled = false\n");
    assert_eq!(policy.usable("exec").unwrap_err().code, code::BACKEND_UNAVAILABLE);
    assert!(policy.usable("claude").is_ok() && policy.usable("third").is_ok());
}

#[test]
fn the_hello_brings_exactly_what_is_granted() {
    let world = world();
    let policy = world.policy(
        "[backends.claude]\nenabled = false\n[backends.codex]\nenabled = false\n[backends.ssh]\nenabled = false\n[backends.exec.grants]\nenv = { B = true, A = true, FIXED = 'x' }\nsecrets = { t = { env = 'TOKEN' }, f = { file = '/x' } }\n[backends.x.grants]\nenv = ['A']\n",
    );
    assert_eq!(policy.client_env_names(), ["A", "B", "TOKEN"]);
    let names = world.policy("").client_env_names();
    assert!(names.contains(&"ANTHROPIC_API_KEY".to_owned()) && names.contains(&"HOME".to_owned()) && !names.contains(&"PATH".to_owned()));
}

#[test]
fn check_says_what_is_missing_and_how_to_mend_it() {
    let world = world();
    std::fs::write(world.home.join("open"), "canary-secret").unwrap();
    std::fs::set_permissions(world.home.join("open"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(world.home.join("closed"), "canary-secret").unwrap();
    std::fs::set_permissions(world.home.join("closed"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let policy = world.policy(&format!(
        "path = ['~/bin']\n[backends.off]\nenabled = false\n[backends.exec]\ndigest = '{}'\n[backends.exec.grants]\nprograms = {{ tool = 'tool', gone = 'gone' }}\nworkspaces = ['~/work', '~/missing', '~']\nenv = {{ HERE = true, GONE = true, LD_PRELOAD = true, MY_TOKEN = 'canary-secret' }}\nhosts = ['a:1']\nsecrets = {{ a = {{ env = 'SET' }}, b = {{ env = 'UNSET' }}, c = {{ file = '~/open' }}, d = {{ file = '~/closed' }}, e = {{ file = '~/none' }}, f = {{ command = ['tool', 'x'] }}, g = {{ command = ['gone'] }} }}\n",
        "a".repeat(64)
    ));
    let client_env = BTreeMap::from([("HERE".to_owned(), "canary-secret".to_owned()), ("SET".to_owned(), "canary-secret".to_owned())]);
    let report = policy.report(&client_env);
    assert!(!format!("{report:?}").contains("canary"), "no value is shown");
    assert_eq!(report["off"].len(), 1);
    let find = |backend: &str, subject: &str| {
        report[backend]
            .iter()
            .find(|finding| finding.subject == subject)
            .unwrap_or_else(|| panic!("{subject}: {:#?}", report[backend]))
            .clone()
    };
    let severity = |subject: &str| find("exec", subject).severity;
    assert_eq!(find("exec", "program tool").message, world.at("bin/tool"));
    let gone = find("exec", "program gone");
    assert_eq!((gone.severity, gone.hint.unwrap().contains("gone = \"/path/to/gone\"")), (Severity::Error, true));
    assert_eq!(severity(&format!("workspace {}/work", world.home)), Severity::Good);
    assert_eq!(severity(&format!("workspace {}/missing", world.home)), Severity::Error);
    assert_eq!(severity(&format!("workspace {}", world.home)), Severity::Warning);
    assert_eq!(find("exec", "digest").message, format!("pinned to {}", "a".repeat(64)));
    assert_eq!(severity("environment LD_PRELOAD"), Severity::Warning);
    assert_eq!(severity("environment MY_TOKEN"), Severity::Warning);
    assert_eq!(severity("hosts"), Severity::Warning);
    assert_eq!(severity("secret a"), Severity::Good);
    assert_eq!(find("exec", "secrets").message, "not set here: $UNSET");
    assert_eq!(find("exec", "secret c").hint.unwrap(), format!("chmod 600 {}/open", world.home));
    assert_eq!((severity("secret d"), severity("secret e")), (Severity::Good, Severity::Error));
    assert_eq!((severity("secret f"), severity("secret g")), (Severity::Good, Severity::Error));
    assert_eq!(find("claude", "program claude").severity, Severity::Error);
    assert_eq!(find("claude", "secrets").severity, Severity::Warning);
    assert_eq!(
        find("claude", "a run may choose").message,
        "add_dirs, effort, max_budget_usd, max_tokens, max_turns, mcp_servers, model, \
         permission_mode (\"ask\", \"accept_edits\", \"plan\", \"never_ask_deny\")"
    );
    assert!(find("codex", "program codex").hint.unwrap().contains("npm install -g @openai/codex"));
    assert!(find("codex", "secrets").hint.unwrap().contains("codex login"));
    let empty = world.policy("").report(&BTreeMap::new());
    assert!(empty["exec"].iter().any(|finding| finding.subject == "programs" && finding.severity == Severity::Warning));
}

#[test]
fn check_looks_at_the_host_too() {
    let world = world();
    let policy = world.policy("");
    let host = policy.report_host();
    assert!(host.iter().all(|finding| finding.severity == Severity::Good), "{host:#?}");
    std::fs::set_permissions(world.home.join(".local/share/falconer/plugins"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = policy.report_host();
    let plugins = open.iter().find(|finding| finding.subject == "plugins directory").unwrap();
    assert_eq!(plugins.severity, Severity::Error);
    assert!(world.top.exists());
}
