//! The contract of `wit/backend.wit`, as Rust: generated, nothing by hand.

#![expect(missing_docs, reason = "generated from wit/backend.wit, which documents every item")]

wit_bindgen::generate!({
    path: "wit",
    world: "backend",
    generate_all,
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_bindings",
    default_bindings_module: "falconer_backend::bindings",
});
