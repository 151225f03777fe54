//! What a component wants and offers, read from its bytes before anything is compiled.

use wasmparser::{Encoding, Parser, Payload};

use crate::fault::{Fault, code};

/// The contract, as a package.
const PACKAGE: &str = "falconer:backend";
/// Its version. A component for another one is listed as failed.
const VERSION: &str = "0.1.0";
/// What a component must export.
const ADAPTER: &str = "adapter";
/// What it may import.
const IMPORTS: [&str; 5] = ["types", "process", "secret", "blobs", "log"];
/// Packages of WASI 0.2 that are linked; other WASI imports are there, but trap when called.
const OFFERED: [&str; 6] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

/// The name of an interface: `package/interface@version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name<'a> {
    package: &'a str,
    interface: &'a str,
    version: &'a str,
}

impl<'a> Name<'a> {
    /// None: not the name of an interface of a package.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let (package, interface) = path.split_once('/')?;
        package.contains(':').then_some(Self { package, interface, version })
    }

    pub(super) fn is_wasi(&self) -> bool {
        self.package.starts_with("wasi:")
    }

    /// Whether it is one of the packages that are really linked.
    pub(super) fn is_offered_wasi(&self) -> bool {
        OFFERED.contains(&self.package)
    }

    fn is_of_later_wasi(&self) -> bool {
        let mut numbers = self.version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (0, 3)
    }
}

/// The names of a component's imports and exports.
#[derive(Debug, Default)]
struct Interface {
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Checks that these bytes are a component of our world: `wit_version` or `wasi_version` otherwise.
pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    let Interface { imports, exports } = read(bytes)?;
    for import in &imports {
        check_import(import)?;
    }
    let adapters =
        exports.iter().filter_map(|export| Name::parse(export)).filter(|name| name.package == PACKAGE && name.interface == ADAPTER);
    let found: Vec<&str> = adapters.map(|name| name.version).collect();
    if found.contains(&VERSION) {
        return Ok(());
    }
    let world = format!("{PACKAGE}@{VERSION}");
    Err(match found.first() {
        Some(other) => wrong_world(format!("it is a backend for {PACKAGE}@{other}; this falconer runs {world}")),
        None => wrong_world(format!("it does not export {PACKAGE}/{ADAPTER}@{VERSION}, so it is no backend")),
    })
}

fn check_import(import: &str) -> Result<(), Fault> {
    let Some(name) = Name::parse(import) else {
        return Err(wrong_world(format!("it imports `{import}`, which is not in the world of a backend")));
    };
    if name.is_wasi() {
        if name.is_of_later_wasi() {
            return Err(Fault::new(code::WASI_VERSION, format!("it needs `{import}`; this falconer offers WASI 0.2"))
                .hint("build it for WASI 0.2 (for Rust: --target wasm32-wasip2)"));
        }
        return Ok(());
    }
    if name.package != PACKAGE || !IMPORTS.contains(&name.interface) {
        return Err(wrong_world(format!("it imports `{import}`, which is not in the world of a backend")));
    }
    if name.version != VERSION {
        return Err(wrong_world(format!("it imports `{import}`; this falconer offers {PACKAGE}@{VERSION}")));
    }
    Ok(())
}

fn wrong_world(message: String) -> Fault {
    Fault::new(code::WIT_VERSION, message).hint(format!("build it against the package {PACKAGE}@{VERSION} of this falconer's `wit` folder"))
}

/// Reads the outermost imports and exports.
fn read(bytes: &[u8]) -> Result<Interface, Fault> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Fault::new(code::WIT_VERSION, "it is no WebAssembly").hint("a plugin is a WebAssembly component, in a file NAME.wasm"));
    }
    let broken = |error: wasmparser::BinaryReaderError| Fault::new(code::WIT_VERSION, format!("it is no valid component: {error}"));
    let mut found = Interface::default();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(Fault::new(code::WIT_VERSION, "it is a core WebAssembly module, not a component")
                    .hint("build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    found.exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_wasi() {
        let later = |name| Name::parse(name).unwrap().is_of_later_wasi();
        assert!(later("wasi:cli/run@0.3.0") && later("wasi:cli/run@0.3.0-rc-2026") && later("wasi:cli/run@1.0.0"));
        assert!(!later("wasi:cli/run@0.2.12") && !later("wasi:logging/logging@0.1.0-draft") && !later("wasi:logging/logging"));
    }

    #[test]
    fn imports_outside_the_world_are_named() {
        for import in ["evil", "falconer:backend/net@0.1.0", "falconer:backend/process@0.2.0", "acme:things/gun@1.0.0"] {
            let fault = check_import(import).unwrap_err();
            assert!(fault.code == code::WIT_VERSION && fault.message.contains(import), "{fault:?}");
        }
    }
}
