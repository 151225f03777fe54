//! Compiles components of this workspace for `wasm32-wasip2` with plain cargo, from a build script of another crate.
//!
//! * The inner cargo has a target folder of its own: the outer one is locked while this runs (a deadlock), and `OUT_DIR`
//!   differs between `build`, `test` and `clippy` (a whole build each). All build scripts share it.
//! * Its environment is cleaned of all that the outer cargo set for the script, or `RUSTFLAGS` of the host, clippy's
//!   wrapper and the like would reach the components.
//! * A missing standard library of the target is added by rustup where rustup is there; else the build stops and says
//!   the one command to run.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const WASM_TARGET: &str = "wasm32-wasip2";
const CARGO_PROFILE: &str = "plugin";
/// Of the variables that begin with `CARGO_`, those that are the person's and not the outer build's.
const KEPT_CARGO_VARIABLES: [&str; 9] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "CARGO_MAKEFLAGS",
    "CARGO_TERM_",
    "CARGO_CACHE_",
];
/// What cargo and clippy set for a build script, besides `CARGO_*` and `DEP_*`. `RUSTC` stays: the same compiler.
const DROPPED_VARIABLES: [&str; 17] = [
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
    "LLVM_PROFILE_FILE",
    "__CARGO_TEST_ROOT",
    "__CARGO_DEFAULT_LIB_METADATA",
];

/// Components that were compiled. While this is held, no other build script compiles any.
#[derive(Debug)]
pub struct Built {
    dir: PathBuf,
    _lock: File,
}

impl Built {
    /// The file of a component, by the name of its library, or `examples/NAME`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name).with_extension("wasm")
    }
}

/// Compiles what these arguments of `cargo build` name, in the workspace at `root`.
///
/// # Errors
/// A standard library that cannot be had, a folder that cannot be written, and what the compiler says.
pub fn components(root: &Path, what: &[&str]) -> Result<Built, Box<dyn Error>> {
    for file in ["Cargo.toml", "Cargo.lock", "wit", "plugins/sdk/src", "plugins/sdk/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let target_dir = target_dir(&PathBuf::from(variable("OUT_DIR")?))?;
    fs::create_dir_all(&target_dir)?;
    // Two builds at once (a test run and an editor's check) share the folder: one compiles and copies, the other waits.
    let lock = File::create(target_dir.join(".lock"))?;
    lock.lock()?;
    ensure_target()?;
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(root).args(["build", "--locked", "--profile", CARGO_PROFILE, "--target", WASM_TARGET, "--target-dir"]);
    cargo.arg(&target_dir).args(what);
    clean_environment(&mut cargo);
    let output = cargo.output().map_err(|error| format!("cargo cannot be started for components: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the components could not be compiled to {WASM_TARGET}:\n{said}").into());
    }
    Ok(Built { dir: target_dir.join(WASM_TARGET).join(CARGO_PROFILE), _lock: lock })
}

/// A variable that cargo sets for build scripts.
///
/// # Errors
/// When this is no build script.
pub fn variable(name: &str) -> Result<OsString, Box<dyn Error>> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}").into())
}

/// `plugins` inside the outer target folder, which is known by its `CACHEDIR.TAG` wherever the build's layout puts `OUT_DIR`.
fn target_dir(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let outer = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).or_else(|| out.ancestors().nth(4));
    Ok(outer.ok_or("OUT_DIR lies in no target folder")?.join("plugins"))
}

/// Makes sure that the toolchain in use has the target's standard library.
fn ensure_target() -> Result<(), Box<dyn Error>> {
    if has_target()? {
        return Ok(());
    }
    let by_hand = match env::var("RUSTUP_TOOLCHAIN") {
        Ok(toolchain) => format!("rustup target add {WASM_TARGET} --toolchain {toolchain}"),
        Err(_) => format!("rustup target add {WASM_TARGET}"),
    };
    let mut words = by_hand.split(' ');
    let mut rustup = Command::new(words.next().unwrap_or_default());
    rustup.args(words);
    let why = match rustup.output() {
        Ok(output) if output.status.success() && has_target()? => return Ok(()),
        Ok(output) => format!("rustup could not add it: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(_) => "there is no rustup that could add it".to_owned(),
    };
    Err(format!("components need the {WASM_TARGET} standard library, which this toolchain lacks, and {why}\nrun: {by_hand}").into())
}

fn has_target() -> Result<bool, Box<dyn Error>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", WASM_TARGET]).output()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let Ok(files) = fs::read_dir(folder) else { return Ok(false) };
    Ok(files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

fn clean_environment(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        if is_of_the_outer_build(&name) {
            cargo.env_remove(name);
        }
    }
}

fn is_of_the_outer_build(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let foreign_cargo = name.starts_with("CARGO_") && !KEPT_CARGO_VARIABLES.iter().any(|kept| name.starts_with(kept));
    foreign_cargo || name.starts_with("DEP_") || DROPPED_VARIABLES.contains(&name.as_ref())
}
