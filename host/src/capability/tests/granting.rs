//! What is granted, and what is not.

use super::fixture::{borrowed, program};
use super::*;
use crate::contract::falconer::backend::process::{FarAction, FarEnd};

fn grant(setup: &mut Setup) -> &mut Grant {
    Arc::make_mut(&mut setup.grant)
}

#[tokio::test]
async fn only_granted_programs_run() {
    let mut run = Fixture::with(|setup| {
        let missing = Program { path: Err("`make` is in none of /usr/bin".into()), ..program("/") };
        grant(setup).programs.insert("make".into(), missing);
        grant(setup).programs.insert("gone".into(), program("/nowhere/gone"));
    });
    let why = run.denied(Options { program: "python".into(), ..options("one", "") }).await;
    assert!(why.contains("`python`") && why.contains("[backends.exec.grants] programs"), "{why}");
    run.denied(Options { program: "/bin/sh".into(), ..options("one", "") }).await;
    for name in ["make", "gone"] {
        match run.spawn(Options { program: name.into(), ..options("one", "") }).await {
            Err(SpawnError::NotFound(why)) => assert!(why.contains(name), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let why = run.denied(Options { far: Some(FarAction::End(FarEnd { grace_s: 1 })), ..options("one", "") }).await;
    assert!(why.contains("{command}"), "{why}");
    assert!(!run.tree.is_alive());
}

#[tokio::test]
async fn arguments_are_judged_whole_and_first_ones_come_first() {
    let mut run = Fixture::with(|setup| {
        let sh = grant(setup).programs.get_mut("sh").unwrap();
        sh.first = vec!["-c".into(), "echo \"$@\"".into(), "sh".into()];
        sh.allow = vec![regex::Regex::new("^(?:[a-z]+)$").unwrap(), regex::Regex::new("-[nv]").unwrap()];
        sh.max_args = Some(2);
    });
    let with = |args: &[&str]| Options { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..options("one", "") };
    assert_eq!(run.run(with(&["build", "-v"])).await, "build -v\n");
    for bad in [&["build; rm"][..], &["-vv"], &["BUILD"], &["a\nb"], &[""]] {
        let why = run.denied(with(bad)).await;
        assert!(why.contains("allow"), "{why}");
    }
    assert!(run.denied(with(&["a", "b", "c"])).await.contains("max_args = 2"));
    assert!(matches!(run.spawn(with(&["a\0b"])).await, Err(SpawnError::Other(_))));
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_nothing_else() {
    let mut run = Fixture::with(|setup| {
        setup.client_env = ClientEnv::of(&[("CARGO_HOME".to_owned(), "/cargo".to_owned()), ("UNLISTED".to_owned(), "x".to_owned())].into());
        let env = &mut grant(setup).env;
        env.insert("CARGO_HOME".into(), EnvSource::Client);
        env.insert("ABSENT".into(), EnvSource::Client);
        env.insert("FIXED".into(), EnvSource::Value("by the person".into()));
        env.insert("PATH".into(), EnvSource::Value("/usr/bin:/bin".into()));
        env.insert("FALCONER_DATA_DIR".into(), EnvSource::Value("/data".into()));
    });
    let mark = format!("FALCONER_RUN_ID={}", run.host.granted.as_ref().unwrap().setup.run);
    let listed = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let env = Options { program: "env".into(), args: Vec::new(), ..options("one", "") };
    assert_eq!(listed(run.run(env.clone()).await), ["FALCONER_DATA_DIR=/data", &mark, "LANG=C.UTF-8", "PATH=/usr/bin:/bin"]);
    let wanted = [
        ("ABSENT", EnvValue::Inherited),
        ("CARGO_HOME", EnvValue::Inherited),
        ("FALCONER_DATA_DIR", EnvValue::Inherited),
        ("FIXED", EnvValue::IfGranted),
        ("LANG", EnvValue::Text("de_DE.UTF-8".into())),
        ("UNLISTED", EnvValue::IfGranted),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value)).to_vec();
    assert_eq!(
        listed(run.run(Options { label: "two".into(), env: wanted, ..env }).await),
        ["CARGO_HOME=/cargo", "FALCONER_DATA_DIR=/data", &mark, "FIXED=by the person", "LANG=de_DE.UTF-8", "PATH=/usr/bin:/bin"]
    );
}

#[tokio::test]
async fn variables_that_load_code_or_are_ours_are_refused() {
    let mut run = Fixture::with(|setup| {
        grant(setup).env.insert("LD_LIBRARY_PATH".into(), EnvSource::Value("/opt/lib".into()));
    });
    let with = |name: &str, value: EnvValue| Options { env: vec![(name.to_owned(), value)], ..options("one", "echo $LD_LIBRARY_PATH") };
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "NODE_OPTIONS", "FALCONER_RUN_ID", "FALCONER_DATA_DIR"] {
        let why = run.denied(with(name, EnvValue::Text("/tmp/x.so".into()))).await;
        assert!(why.contains(name), "{why}");
    }
    let why = run.denied(with("SSH_AUTH_SOCK", EnvValue::Inherited)).await;
    assert!(why.contains("[backends.exec.grants] env"), "{why}");
    for name in ["A=B", "A\0"] {
        assert!(matches!(run.spawn(with(name, EnvValue::Text("x".into()))).await, Err(SpawnError::Other(_))));
    }
    let twice =
        Options { env: vec![("A".into(), EnvValue::Text("1".into())), ("A".into(), EnvValue::Text("2".into()))], ..options("one", "") };
    assert!(matches!(run.spawn(twice).await, Err(SpawnError::Other(_))));
    assert_eq!(run.run(with("LD_LIBRARY_PATH", EnvValue::Inherited)).await, "/opt/lib\n", "a person may");
}

#[tokio::test]
async fn a_child_works_inside_the_workspaces() {
    let mut run = Fixture::with(|setup| {
        let client = setup.cwd.as_ref().unwrap().parent().unwrap().join("client");
        std::fs::create_dir(&client).unwrap();
        setup.workspaces.push(client);
    });
    let work = run.dir.join("work");
    std::fs::create_dir(work.join("inside")).unwrap();
    std::fs::create_dir(run.dir.join("work-not")).unwrap();
    std::os::unix::fs::symlink("/etc", work.join("escape")).unwrap();
    std::os::unix::fs::symlink(work.join("inside"), work.join("link")).unwrap();
    std::fs::write(work.join("file"), "").unwrap();
    let at = |label: &str, cwd: &str| Options { cwd: Some(cwd.to_owned()), ..options(label, "pwd -P") };

    assert_eq!(run.run(options("none", "pwd -P")).await.trim(), work);
    assert_eq!(run.run(at("inside", work.join("inside").as_str())).await.trim(), work.join("inside"));
    assert_eq!(run.run(at("link", work.join("link").as_str())).await.trim(), work.join("inside"));
    let client = run.dir.join("client");
    assert_eq!(run.run(at("client", client.as_str())).await.trim(), client);
    for outside in [work.join("escape"), work.join("inside/../.."), run.dir.join("work-not"), "/".into(), "relative".into(), "".into()] {
        let why = run.denied(at("out", outside.as_str())).await;
        assert!(outside.is_relative() || why.contains("[backends.exec.grants] workspaces"), "{why}");
    }
    for none in [work.join("nothing"), work.join("file")] {
        assert!(matches!(run.spawn(at("none-2", none.as_str())).await, Err(SpawnError::Other(_))), "{none}");
    }
}

#[tokio::test]
async fn labels_are_used_once_and_children_are_counted() {
    let mut run = Fixture::new();
    let one = run.spawn(options("one", "exec sleep 3000")).await.unwrap();
    assert!(matches!(run.spawn(options("one", "true")).await, Err(SpawnError::Limit(_))));
    let mut held = vec![one];
    for label in ["two", "three", "four"] {
        held.push(run.spawn(options(label, "exec sleep 3000")).await.unwrap());
    }
    match run.spawn(options("five", "true")).await {
        Err(SpawnError::Limit(why)) => assert!(why.contains("children = 4"), "{why}"),
        other => panic!("{other:?}"),
    }
    run.host.signal(borrowed(&held[0]), Signal::Kill).unwrap().unwrap();
    let first = held.remove(0);
    run.finish(&first).await;
    run.spawn(options("five", "exec sleep 3000")).await.unwrap();
    assert!(matches!(run.spawn(options("one", "true")).await, Err(SpawnError::Limit(_))), "not even after its end");
    run.tree.kill().await;
}

#[tokio::test]
async fn breaking_a_limit_of_the_contract_ends_the_call() {
    let mut run = Fixture::new();
    let large = code::VALUE_TOO_LARGE;
    for (bad, expected) in [
        (Options { label: "A b".into(), ..options("", "") }, code::CONTRACT_VIOLATION),
        (options("", ""), code::CONTRACT_VIOLATION),
        (options(&"a".repeat(33), ""), large),
        (Options { program: "p".repeat(129), ..options("one", "") }, large),
        (Options { args: vec!["x".repeat(1024 * 1024)], ..options("one", "") }, large),
        (Options { args: vec![String::new(); 4097], ..options("one", "") }, large),
        (Options { env: vec![("E".repeat(129), EnvValue::Inherited)], ..options("one", "") }, large),
        (Options { cwd: Some("/".repeat(5000)), ..options("one", "") }, large),
    ] {
        assert_eq!(run.violation(bad).await.code, expected);
    }
    let error = log_wit::Host::write(&mut run.host, Severity::Info, "x".repeat(4097)).unwrap_err();
    assert_eq!(error.downcast_ref::<Violation>().unwrap().code, large);
    let error = secret_wit::Host::read(&mut run.host, "x".repeat(129)).unwrap_err();
    assert_eq!(error.downcast_ref::<Violation>().unwrap().code, large);
}

#[tokio::test]
async fn secrets_come_from_where_the_grant_says() {
    use std::os::unix::fs::PermissionsExt;
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = Utf8PathBuf::from_path_buf(files.path().join(name)).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        SecretSource::File(path)
    };
    let command = |script: &str| SecretSource::Command(vec!["sh".into(), "-c".into(), script.into()]);
    let mut run = Fixture::with(|setup| {
        setup.client_env = ClientEnv::of(&[("T".to_owned(), "from-the-client".to_owned())].into());
        let secrets = &mut grant(setup).secrets;
        secrets.insert("client".into(), SecretSource::Env("T".into()));
        secrets.insert("absent".into(), SecretSource::Env("NONE".into()));
        secrets.insert("short".into(), file("short", "1234567", 0o600));
        secrets.insert("file".into(), file("file", "from-the-file\n", 0o600));
        secrets.insert("open".into(), file("open", "from-the-open-file\n", 0o644));
        secrets.insert("command".into(), command("echo from-the-command; echo second line"));
        secrets.insert("failing".into(), command("echo canary-canary >&2; exit 3"));
    });
    assert!(matches!(secret_wit::Host::read(&mut run.host, "client".into()).unwrap(), Err(secret_wit::SecretError::Denied)));
    let with = |label: &str, secret: &str| Options {
        env: vec![("S".to_owned(), EnvValue::Secret(secret.into()))],
        ..options(label, "printf %s \"$S\" | tr a-z b-za")
    };
    // In another form, so that it is not hidden here.
    assert_eq!(run.run(with("one", "client")).await, "gspn-uif-dmjfou");
    assert_eq!(run.run(with("two", "file")).await, "gspn-uif-gjmf");
    assert_eq!(run.run(with("three", "command")).await, "gspn-uif-dpnnboe");
    for (name, expected) in [("absent", "NONE"), ("short", "secret_too_short"), ("open", "chmod 600"), ("failing", "exit code 3")] {
        match run.spawn(with("four", name)).await {
            Err(SpawnError::Other(why)) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(!secret_wit::Host::available(&mut run.host, name.into()).unwrap());
    }
    let why = run.denied(with("four", "unknown")).await;
    assert!(why.contains("[backends.exec.grants] secrets"), "{why}");
    assert!(secret_wit::Host::available(&mut run.host, "command".into()).unwrap());
    assert!(!secret_wit::Host::available(&mut run.host, "unknown".into()).unwrap());
    assert!(!run.log_text().contains("canary"), "{}", run.log_text());
}

#[tokio::test]
async fn a_secret_that_is_being_fetched_rings_when_it_is_there() {
    let mut run = Fixture::with(|setup| {
        let go = setup.cwd.as_ref().unwrap().join("go");
        rustix::fs::mknodat(rustix::fs::CWD, go.as_std_path(), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let command = vec!["cat".to_owned(), go.to_string()];
        grant(setup).secrets.insert("slow".into(), SecretSource::Command(command));
    });
    assert!(!secret_wit::Host::available(&mut run.host, "slow".into()).unwrap());
    assert!(!run.rang());
    let go = run.dir.join("work/go");
    // Opening it waits for the command.
    tokio::task::spawn_blocking(move || std::fs::write(go, "worth-waiting-for\n").unwrap()).await.unwrap();
    run.heard().await;
    assert!(secret_wit::Host::available(&mut run.host, "slow".into()).unwrap());
}

#[tokio::test]
async fn what_refuses_refuses_everything_but_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let file = Utf8PathBuf::from_path_buf(dir.path().join("plan.log")).unwrap();
    let mut host = Host::refusing(Some(RunLog::open(&file, Vec::new())));
    assert!(matches!(host.spawn(options("one", "true")).await.unwrap(), Err(SpawnError::Denied(_))));
    assert!(matches!(secret_wit::Host::read(&mut host, "x".into()).unwrap(), Err(secret_wit::SecretError::Denied)));
    assert!(!secret_wit::Host::available(&mut host, "x".into()).unwrap());
    assert!(blobs::Host::read(&mut host, "x".into(), 0, 1).unwrap().is_err());
    assert!(blobs::Host::create(&mut host).unwrap().is_err());
    log_wit::Host::write(&mut host, Severity::Warning, "seen".into()).unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().ends_with(" backend:warning seen\n"));
    log_wit::Host::write(&mut Host::refusing(None), Severity::Info, "unseen".into()).unwrap();
}

#[tokio::test]
async fn blobs_are_read_written_and_bounded() {
    use blobs::{Host as _, HostWriter as _};
    let mut run = Fixture::with(|setup| {
        let input = setup.cwd.as_ref().unwrap().join("input");
        std::fs::write(&input, "the input").unwrap();
        setup.inputs.add([("in-1".into(), input)].into());
    });
    let host = &mut run.host;
    assert_eq!(blobs::Host::read(host, "in-1".into(), 4, 3).unwrap().unwrap(), b"inp");
    assert_eq!(blobs::Host::read(host, "in-1".into(), 9, 3).unwrap().unwrap(), b"");
    assert_eq!(blobs::Host::read(host, "0".repeat(64), 0, 1).unwrap().unwrap_err().code, code::UNKNOWN_ARTIFACT);

    let writer = host.create().unwrap().unwrap();
    blobs::HostWriter::write(host, borrowed(&writer), b"hello ".to_vec()).unwrap().unwrap();
    blobs::HostWriter::write(host, borrowed(&writer), b"world".to_vec()).unwrap().unwrap();
    let id = host.seal(borrowed(&writer)).unwrap().unwrap();
    assert_eq!(blobs::Host::read(host, id, 6, 100).unwrap().unwrap(), b"world");
    assert_eq!(blobs::HostWriter::write(host, borrowed(&writer), vec![1]).unwrap().unwrap_err().code, "blob_sealed");
    blobs::HostWriter::drop(host, writer).unwrap();

    let writer = host.create().unwrap().unwrap();
    let too_much = vec![0; 1024 * 1024];
    assert_eq!(blobs::HostWriter::write(host, borrowed(&writer), too_much).unwrap().unwrap_err().code, code::OUTPUT_EXCEEDED);
    for _ in 1..super::super::blobs::OPEN_WRITERS {
        host.create().unwrap().unwrap();
    }
    assert_eq!(host.create().unwrap().unwrap_err().code, code::LIMIT_REACHED);
}
