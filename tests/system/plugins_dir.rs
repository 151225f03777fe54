//! The plugins directory: a third party's backend, made outside the workspace by following `docs/backends.md` word for word.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{Host, USUAL};

/// The guide for backend authors.
fn guide() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/backends.md")).unwrap()
}

/// The first fenced block of this language that holds this word.
#[track_caller]
fn block(guide: &str, language: &str, word: &str) -> String {
    let mut rest = guide;
    let fence = format!("\n```{language}\n");
    while let Some(begin) = rest.find(&fence) {
        let body = &rest[begin + fence.len()..];
        let end = body.find("\n```").unwrap() + 1;
        if body[..end].contains(word) {
            return body[..end].to_owned();
        }
        rest = &body[end..];
    }
    panic!("docs/backends.md has no block of {language} with {word}");
}

/// A crate outside the workspace, as the guide says.
struct ThirdParty {
    dir: tempfile::TempDir,
    name: String,
    manifest: String,
}

impl ThirdParty {
    fn by_the_guide() -> Self {
        let guide = guide();
        let dir = tempfile::Builder::new().prefix("falconer-third-party-").tempdir().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        // The one thing that is not word for word: where the SDK is, which is not published while it is tested.
        let sdk = format!("falconer-backend = {{ path = {:?} }}", workspace.join("plugins/sdk"));
        let manifest: String = block(&guide, "toml", "[package]")
            .lines()
            .map(|line| if line.starts_with("falconer-backend") { sdk.clone() } else { line.to_owned() } + "\n")
            .collect();
        let name = manifest.lines().find_map(|line| Some(line.strip_prefix("name = \"")?.trim_end_matches('"').to_owned())).unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/lib.rs"), block(&guide, "rust", "export!")).unwrap();
        // Versions that are known to be there: what is not needed of it cargo takes out.
        fs::copy(workspace.join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
        Self { dir, name, manifest }
    }

    /// Builds it with the guide's command; a build of this version.
    fn build(&self, version: &str) -> Vec<u8> {
        let old = self.manifest.lines().find(|line| line.starts_with("version = ")).unwrap();
        fs::write(self.dir.path().join("Cargo.toml"), self.manifest.replacen(old, &format!("version = \"{version}\""), 1)).unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("third-party");
        let line =
            block(&guide(), "sh", "cargo build").lines().find(|line| line.trim_start().starts_with("cargo build")).unwrap().to_owned();
        let mut cargo = Command::new("sh");
        cargo.args(["-c", &line]).current_dir(self.dir.path()).env("CARGO_TARGET_DIR", &target);
        for (name, _) in std::env::vars() {
            let of_the_outer = ["CARGO_MANIFEST", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY", "CARGO_ENCODED"];
            if of_the_outer.iter().any(|prefix| name.starts_with(prefix))
                || ["RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"].contains(&name.as_str())
            {
                cargo.env_remove(name);
            }
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        let file = format!("{}.wasm", self.name.replace('-', "_"));
        let built = ["release", "debug"].map(|profile| target.join("wasm32-wasip2").join(profile).join(&file));
        fs::read(built.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("none of {built:?}"))).unwrap()
    }
}

fn backend(client: &Client, name: &str) -> Value {
    let page = client.call("list_backends", json!({}));
    page["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn a_third_partys_backend_is_built_dropped_in_used_and_replaced() {
    let theirs = ThirdParty::by_the_guide();
    let wasm = theirs.build("1.0.0");
    let name = theirs.name.clone();
    let grants = block(&guide(), "toml", &format!("[backends.{name}"));
    let config = format!("{USUAL}\n{grants}").replace("~/src", "{work}");
    let host = Host::with(&config);
    let client = host.client();
    assert_eq!(backend(&client, &name), Value::Null);

    host.plugin(&name, &wasm);
    let listed = backend(&client, &name);
    assert_eq!((&listed["state"], &listed["version"]), (&json!("ready"), &json!("1.0.0")), "{listed}");
    let digest = listed["digest"].clone();
    assert!(listed["source"].as_str().unwrap().ends_with(&format!("{name}.wasm")), "{listed}");

    // What the guide's own request asks for.
    let request: Value = serde_json::from_str(&block(&guide(), "json", &format!("\"{name}\""))).unwrap();
    let mut request = request;
    request["cwd"] = json!(host.work());
    let plan = client.call("plan_run", request.clone());
    assert_eq!((&plan["allowed"], &plan["backend_digest"]), (&json!(true), &digest), "{plan}");
    let run = client.run(request.clone());
    assert_eq!((&run["status"], &run["backend_digest"]), (&json!("completed"), &digest), "{run}");
    assert!(client.events(run["run_id"].as_str().unwrap()).len() > 3);

    // One that is stopped: the guide's backend runs one program, and its config names program and arguments.
    let mut long = request.clone();
    long["config"]["program"] = json!("sh");
    long["config"]["args"] = json!(["-c", "echo up; exec sleep 1000"]);
    let long_run = client.spawn(long);
    client.event(&long_run, "its output", |event| event["type"] == "command_output");

    // Replaced while a run of the old build is alive: that one keeps its build.
    host.plugin(&name, &theirs.build("2.0.0"));
    let listed = backend(&client, &name);
    assert_eq!(listed["version"], "2.0.0", "{listed}");
    assert_ne!(listed["digest"], digest);
    assert_eq!(client.get(&long_run)["backend_digest"], digest);
    assert_eq!(client.get(&long_run)["status"], "running");
    assert_eq!(client.cancel(&long_run)["status"], "cancelled");
    let run = client.run(request);
    assert_eq!((&run["status"], &run["backend_digest"]), (&json!("completed"), &listed["digest"]), "{run}");

    fs::remove_file(host.path("plugins").join(format!("{name}.wasm"))).unwrap();
    assert_eq!(backend(&client, &name), Value::Null);
    assert_eq!(client.get(run["run_id"].as_str().unwrap())["status"], "completed", "its runs are kept");
}

#[test]
fn a_bundled_backend_is_replaced_by_name() {
    let host = Host::usual();
    let client = host.client();
    let bundled = backend(&client, "exec");
    assert_eq!(bundled["source"], "bundled");
    host.plugin("exec", falconer_hostile::HOSTILE);
    let replaced = backend(&client, "exec");
    assert_eq!((&replaced["state"], &replaced["title"]), (&json!("ready"), &json!("Hostile")), "{replaced}");
    assert_ne!(replaced["digest"], bundled["digest"]);
    fs::remove_file(host.path("plugins/exec.wasm")).unwrap();
    assert_eq!(backend(&client, "exec")["digest"], bundled["digest"]);
}

#[test]
fn a_pinned_digest_holds() {
    let host =
        Host::with(&USUAL.replace(
            "[backends.hostile.grants]",
            &format!("[backends.hostile]\ndigest = \"{}\"\n[backends.hostile.grants]", "0".repeat(64)),
        ));
    let client = host.client();
    let listed = backend(&client, "hostile");
    assert_eq!(listed["state"], "failed", "{listed}");
    assert!(listed["reason"]["message"].as_str().unwrap().contains("digest"), "{listed}");
    client.refused("spawn_run", host.hostile(json!({ "mode": "echo" })), "backend_unavailable");
    assert_eq!(backend(&client, "exec")["state"], "ready");
}

#[test]
fn a_directory_that_others_may_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::usual();
    fs::set_permissions(host.path("plugins"), fs::Permissions::from_mode(0o777)).unwrap();
    let client = host.client();
    assert_ne!(backend(&client, "hostile")["state"], "ready");
    assert_eq!(backend(&client, "exec")["state"], "ready");
}
