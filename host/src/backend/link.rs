//! What a component is linked with: the contract's imports, and all of WASI 0.2 with nothing granted.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, Linker, ResourceType};

use super::inspect::Name;
use super::store::Data;
use crate::capability::Host;
use crate::contract::{Backend, BackendPre};

/// Says to the generated code where the run's capabilities are.
struct Granted;

impl HasData for Granted {
    type Data<'a> = &'a mut Host;
}

/// The linker of every component.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Data>> {
    let mut linker = Linker::<Data>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Backend::add_to_linker::<_, Granted>(&mut linker, |data| &mut data.host)?;
    Ok(linker)
}

/// Links one component, ready to be instantiated.
pub(super) fn link(base: &Linker<Data>, component: &Component) -> wasmtime::Result<BackendPre<Data>> {
    let mut linker = base.clone();
    stub_wasi(&mut linker, component)?;
    BackendPre::new(linker.instantiate_pre(component)?)
}

/// Interfaces of WASI 0.2 that are not offered (http, and proposals beyond the six packages) are imported by language
/// run-times that never call them. They are there, and a call traps.
fn stub_wasi(linker: &mut Linker<Data>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    // Resources that an interface of ours brings: a stub that uses them must not make them anew.
    let mut known: Vec<ResourceType> = Vec::new();
    for (name, item) in ty.imports(&engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        let stubbed = Name::parse(name).is_some_and(|name| name.is_wasi() && !name.is_offered_wasi());
        for (export, item) in interface.exports(&engine) {
            match item.ty {
                ComponentItem::Resource(resource) if !known.contains(&resource) => {
                    known.push(resource);
                    if stubbed {
                        linker.instance(name)?.resource(export, ResourceType::host::<()>(), |_, _| Ok(()))?;
                    }
                }
                ComponentItem::ComponentFunc(_) if stubbed => {
                    let import = format!("{name}#{export}");
                    linker
                        .instance(name)?
                        .func_new(export, move |_, _, _, _| Err(wasmtime::Error::msg(format!("`{import}` is not offered to backends"))))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
