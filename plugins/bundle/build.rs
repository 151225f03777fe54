//! Compiles the bundled backends to components, and writes the table that `lib.rs` includes.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use falconer_compile::{components, variable};
use sha2::{Digest, Sha256};

/// Name of the backend and of its folder, its library and its file.
const BACKENDS: [&str; 4] = ["claude", "codex", "exec", "ssh"];
/// Embedded beside them: what the demo calls back.
const SPINNER: &str = "spinner";

fn main() {
    if let Err(error) = build() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let root = package.ancestors().nth(2).ok_or("plugins/bundle lies in no workspace")?;
    println!("cargo::rerun-if-changed=build.rs");
    let packages: Vec<String> = BACKENDS.into_iter().chain([SPINNER]).map(|name| format!("--package=falconer-{name}")).collect();
    for name in BACKENDS.into_iter().chain([SPINNER]) {
        for file in ["src", "Cargo.toml", "backend.json"] {
            println!("cargo::rerun-if-changed={}", root.join("plugins").join(name).join(file).display());
        }
    }
    let what: Vec<&str> = ["--lib"].into_iter().chain(packages.iter().map(String::as_str)).collect();
    let built = components(root, &what)?;

    let mut table = String::from("&[\n");
    for name in BACKENDS {
        let wasm = fs::read(built.file(name))?;
        let copy = out.join(format!("{name}.wasm"));
        fs::write(&copy, &wasm)?;
        let digest: String = Sha256::digest(&wasm).iter().map(|byte| format!("{byte:02x}")).collect();
        let description = root.join("plugins").join(name).join("backend.json");
        table.push_str(&format!(
            "    Bundled {{ name: {name:?}, wasm: include_bytes!({copy:?}), description: include_str!({description:?}), digest: {digest:?} }},\n"
        ));
    }
    table.push_str("]\n");
    fs::copy(built.file(SPINNER), out.join("spinner.wasm"))?;
    fs::write(out.join("backends.rs"), table)?;
    Ok(())
}
