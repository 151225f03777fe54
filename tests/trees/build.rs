//! Compiles the bait with the compiler of this build, and says where it is. It has no dependencies, so no cargo is needed.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    match build() {
        Ok(program) => println!("cargo::rustc-env=FALCONER_BAIT={}", program.display()),
        Err(why) => println!("cargo::error={why}"),
    }
}

fn build() -> Result<PathBuf, String> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"));
    let program = PathBuf::from(variable("OUT_DIR")?).join("falconer-bait");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.current_dir(variable("CARGO_MANIFEST_DIR")?);
    rustc.args(["--crate-name", "falconer_bait", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["-C", "opt-level=2", "-C", "panic=abort", "-C", "strip=debuginfo"]);
    rustc.arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.display()));
    }
    let status = rustc.arg("src/main.rs").arg("-o").arg(&program).status().map_err(|error| format!("rustc cannot be started: {error}"))?;
    if status.success() { Ok(program) } else { Err("the bait does not compile; see above".into()) }
}
