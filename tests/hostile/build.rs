//! Compiles the components of `components/` for `wasm32-wasip2` with plain cargo, and says where they are.
//!
//! They go to a target directory of their own beside the outer one (whose lock is held while this runs), which the bundled
//! backends share, so that what both depend on is compiled once.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// Of the variables that begin with `CARGO_`, those that are the person's and not the outer build's.
const KEPT: &[&str] =
    &["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_SOURCE_", "CARGO_MAKEFLAGS", "CARGO_TERM_"];
/// What cargo, clippy and rustup set for a build script besides, and must not reach the components.
const DROPPED: &[&str] = &[
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "RUSTDOC",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
    "__CARGO_DEFAULT_LIB_METADATA",
];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = here.join("../..");
    for part in ["tests/hostile/components", "wit", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    match build(&root) {
        Ok(out) => println!("cargo::rustc-env=FALCONER_HOSTILE_DIR={}", out.display()),
        Err(why) => println!("cargo::error={why}"),
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let out = PathBuf::from(variable("OUT_DIR"));
    // …/target/PROFILE/build/CRATE-HASH/out
    let target_dir = out.ancestors().nth(4).ok_or("the build directory has an unknown shape")?.join("plugins");
    let said = |error: std::io::Error| format!("{}: {error}", target_dir.display());
    fs::create_dir_all(&target_dir).map_err(said)?;
    // Two builds at once (a test run and an editor's check) share the folder: one compiles and copies, the other waits.
    let lock = File::create(target_dir.join(".lock")).map_err(said)?;
    lock.lock().map_err(said)?;

    standard_library()?;
    let mut cargo = inner(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--locked", "--quiet", "--profile", "plugin", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target_dir).args(["--package", "hostile-components", "--lib", "--examples"]);
    let status = cargo.status().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!("the hostile components do not compile for {TARGET}; see above"));
    }
    let built = target_dir.join(TARGET).join("plugin");
    for file in ["hostile", "examples/describe_traps", "examples/describe_spins", "examples/other_version", "examples/other_world"] {
        let from = built.join(file).with_extension("wasm");
        let name = from.file_name().ok_or("a file without a name")?;
        fs::copy(&from, out.join(name)).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    Ok(out)
}

/// Whether the standard library of the wasm target is there; adds it where rustup can.
fn standard_library() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let there = || {
        inner(&rustc)
            .args(["--print", "target-libdir", "--target", TARGET])
            .output()
            .ok()
            .filter(|output| output.status.success())
            .is_some_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
    };
    if there() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(["target", "add", TARGET]);
    if let Ok(toolchain) = env::var("RUSTUP_TOOLCHAIN") {
        add.args(["--toolchain", &toolchain]);
    }
    if add.status().is_ok_and(|status| status.success()) && there() {
        return Ok(());
    }
    Err(format!("the test components need the standard library of {TARGET}; run: rustup target add {TARGET}"))
}

fn inner(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_the_outer = text.starts_with("CARGO_") && !KEPT.iter().any(|kept| text.starts_with(kept));
        if of_the_outer || text.starts_with("DEP_") || DROPPED.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    command
}
