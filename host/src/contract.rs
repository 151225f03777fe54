//! The contract of `wit/`, as Rust: generated, nothing by hand.
//!
//! `falconer:backend@0.1.0`. What a component may import is implemented in [`crate::capability`]; what it exports is
//! called by [`crate::backend`].

#![expect(missing_docs, reason = "generated from wit/backend.wit, which documents every item")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "backend",
    imports: {
        "falconer:backend/process.spawn": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "falconer:backend/process.child": crate::capability::process::Child,
        "falconer:backend/blobs.writer": crate::capability::blobs::Writer,
    },
});
