//! Compiles the components of `components/`, and says where they are.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use falconer_compile::{components, variable};

/// By the name of the library, or of the example.
const FILES: [&str; 7] = [
    "hostile",
    "examples/describe_traps",
    "examples/describe_spins",
    "examples/other_version",
    "examples/other_world",
    "examples/planned",
    "examples/targeted",
];

fn main() {
    if let Err(error) = build() {
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let root = here.ancestors().nth(2).ok_or("tests/hostile lies in no workspace")?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", here.join("components").display());
    let built = components(root, &["--package", "hostile-components", "--lib", "--examples"])?;
    for file in FILES {
        let from = built.file(file);
        let name = from.file_name().ok_or("a file without a name")?;
        fs::copy(&from, out.join(name)).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    println!("cargo::rustc-env=FALCONER_HOSTILE_DIR={}", out.display());
    Ok(())
}
