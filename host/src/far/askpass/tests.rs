//! Who is answered and who is not, with a shell for ssh: it starts who asks, as ssh does.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::capability::{Attendant, RunLog, Secrets};

/// Everything here is done within this.
const SOON: Duration = Duration::from_secs(60);
const PASSWORD: &str = "hunter2-hunter2";
const PASSPHRASE: &str = "correct horse battery";

fn hops() -> Vec<Hop> {
    let hop = |name: &str| Hop {
        name: name.into(),
        known_as: name.into(),
        user: Some("deploy".into()),
        password: Some(format!("{name}-pw")),
        passphrase: Some("keys".into()),
        identity: vec![format!("/keys/{name}").into()],
    };
    vec![
        hop("bastion"),
        Hop { password: Some("nobody-granted-it".into()), ..hop("db") },
        Hop { password: Some("two-lines".into()), ..hop("lines") },
        hop("web"),
    ]
}

struct World {
    dir: Utf8PathBuf,
    answerer: Answerer,
    _temp: tempfile::TempDir,
}

fn world() -> World {
    let temp = tempfile::tempdir().unwrap();
    // Longer than an address of a socket may be.
    let dir = Utf8Path::from_path(temp.path()).unwrap().join("d".repeat(120));
    std::fs::create_dir(&dir).unwrap();
    let secrets = Secrets::ready(&[
        ("web-pw", PASSWORD),
        ("bastion-pw", "another-password"),
        ("keys", PASSPHRASE),
        ("two-lines", "first-line\nsecond"),
    ]);
    let log = RunLog::open(&dir.join("log"), vec![PASSWORD.into(), PASSPHRASE.into()]);
    let answerer = Answerer::listen(&dir, hops(), Arc::new(secrets), log).unwrap();
    World { dir, answerer, _temp: temp }
}

/// The program that asks: this test program again, by [`asks`].
fn asking() -> String {
    format!("{} --exact far::askpass::tests::asks --nocapture --test-threads 1", std::env::current_exe().unwrap().display())
}

/// Not a test by itself: what a shell of the others starts in the place of the link.
#[test]
fn asks() {
    let (Some(dir), Some(prompt)) = (std::env::var_os("TEST_ASK_DIR"), std::env::var_os("TEST_ASK_PROMPT")) else { return };
    match ask(&PathBuf::from(dir), prompt.as_bytes()) {
        Ok(Some(secret)) => println!("\nanswer={}", String::from_utf8(secret).unwrap()),
        other => println!("\nno={other:?}"),
    }
}

impl World {
    /// A shell, called as an ssh to `hop` is, that runs this script; what it prints.
    fn shell(&self, hop: &str, prompts: &[&str], script: &str) -> tokio::process::Command {
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.args(["-c", script, "ssh", "--", hop]).args(prompts);
        shell.env("TEST_ASK_DIR", &self.dir).env("ASK", asking()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        shell
    }

    /// Asks these prompts one after the other, as the ssh to `hop`; the answers.
    async fn answers(&self, hop: &str, prompts: &[&str]) -> Vec<Option<String>> {
        const EACH: &str = "read go; shift 2; for p in \"$@\"; do TEST_ASK_PROMPT=$p $ASK; done; exit 0";
        let mut child = self.shell(hop, prompts, EACH).spawn().unwrap();
        self.answerer.started(child.id().unwrap());
        go(&mut child).await;
        let out = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
        answers(&out.stdout)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

async fn go(child: &mut tokio::process::Child) {
    child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
}

fn answers(out: &[u8]) -> Vec<Option<String>> {
    let text = String::from_utf8(out.to_vec()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("answer=") || line.starts_with("no="));
    lines.map(|line| line.strip_prefix("answer=").map(str::to_owned)).collect()
}

use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_prompt_is_answered_once_and_no_other() {
    let world = world();
    assert_eq!(std::fs::metadata(world.dir.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
    let given = world
        .answers(
            "web",
            &[
                "deploy@web's password: ",
                "Enter passphrase for key '/keys/web': ",
                "deploy@web's password: ",
                "root@web's password: ",
                "deploy@bastion's password: ",
                "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
                "Enter passphrase for key '/keys/bastion': ",
            ],
        )
        .await;
    assert_eq!(given, [Some(PASSWORD.to_owned()), Some(PASSPHRASE.to_owned()), None, None, None, None, None]);
    let log = world.log();
    for why in ["it was answered before", "Are you sure you want to continue", "this key file is none of the target's"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert!(!log.contains("hunter2") && !log.contains("correct horse"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_below_the_ssh_gets_its_own_password_and_not_the_others() {
    let world = world();
    // As ssh starts its ProxyCommand: through a shell that becomes the other ssh.
    const OUTER: &str = "read go; shift 2; sh -c \"$1\" ssh -- bastion; exit 0";
    let inner = "for p in \"deploy@web's password: \" \"deploy@bastion's password: \"; do TEST_ASK_PROMPT=$p $ASK; done; exit 0";
    let mut child = world.shell("web", &[inner], OUTER).spawn().unwrap();
    world.answerer.started(child.id().unwrap());
    go(&mut child).await;
    let out = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(answers(&out.stdout), [None, Some("another-password".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_whatever_it_is_called() {
    let world = world();
    let ssh = world.shell("web", &[], "read go; exit 0").spawn().unwrap();
    world.answerer.started(ssh.id().unwrap());
    // The same program with the same arguments, beside that ssh and not below it.
    let mut stranger = world.shell("web", &["deploy@web's password: "], "read go; TEST_ASK_PROMPT=$3 $ASK; exit 0").spawn().unwrap();
    go(&mut stranger).await;
    let out = tokio::time::timeout(SOON, stranger.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(answers(&out.stdout), [None]);
    assert!(world.log().contains("from outside of this ssh"), "{}", world.log());
    // Nor what the ssh itself has started under another name.
    assert_eq!(world.answers("elsewhere", &["deploy@web's password: "]).await, [None]);
    // The refusals have used nothing up.
    assert_eq!(world.answers("web", &["deploy@web's password: "]).await, [Some(PASSWORD.to_owned())]);
    drop(ssh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_before_the_ssh_is_known_waits() {
    let world = world();
    let mut child =
        world.shell("web", &["deploy@web's password: "], "read go; echo asking; TEST_ASK_PROMPT=$3 $ASK; exit 0").spawn().unwrap();
    go(&mut child).await;
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line).await.unwrap();
    world.answerer.started(child.id().unwrap());
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, tokio::io::AsyncReadExt::read_to_end(&mut out, &mut rest)).await.unwrap().unwrap();
    assert_eq!(answers(&rest), [Some(PASSWORD.to_owned())]);
    child.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_not_there_or_would_be_cut_is_not_given() {
    let world = world();
    assert_eq!(world.answers("db", &["deploy@db's password: "]).await, [None]);
    assert_eq!(world.answers("lines", &["deploy@lines's password: "]).await, [None]);
    let log = world.log();
    assert!(log.contains("`nobody-granted-it` is not granted") && log.contains("holds a line end") && !log.contains("second"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens_after_the_end() {
    let World { dir, answerer, _temp } = world();
    drop(answerer);
    let refused = move || loop {
        match ask(dir.as_std_path(), b"deploy@web's password: ") {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
            Ok(Some(_)) => panic!("answered"),
            _ => std::thread::yield_now(),
        }
    };
    tokio::time::timeout(SOON, tokio::task::spawn_blocking(refused)).await.unwrap().unwrap();
}
