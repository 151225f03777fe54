//! Compiles the components of `components/` for `wasm32-wasip2` with plain cargo, and says where they are.
//!
//! They go to a target directory of their own beside the outer one (whose lock is held while this runs), which the bundled
//! backends share, so that what both depend on is compiled once.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// What the outer cargo sets for this crate and must not reach the inner one.
const NOT_PASSED_ON: &[&str] = &[
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "CLIPPY_ARGS",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
];
const NOT_PASSED_ON_PREFIXES: &[&str] =
    &["CARGO_ENCODED_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_PROFILE_", "CARGO_MANIFEST_", "DEP_"];

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
    standard_library()?;
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    // …/target/PROFILE/build/CRATE-HASH/out
    let target_dir = out_dir.ancestors().nth(4).ok_or("the build directory has an unknown shape")?.join("plugins");
    let mut cargo = inner(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--locked", "--quiet", "--profile", "plugin", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target_dir).args(["--package", "hostile-components", "--lib", "--examples"]);
    let status = cargo.status().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!("the hostile components do not compile for {TARGET}; see above"));
    }
    Ok(target_dir.join(TARGET).join("plugin"))
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
        if NOT_PASSED_ON.contains(&text.as_ref()) || NOT_PASSED_ON_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}
