//! A component, and no backend.
#![cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "natively, nothing is exported"))]

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package other:thing@1.0.0;
            world greeter { export greet: func() -> string; }
        ",
    });
}

struct Greeter;

impl bindings::Guest for Greeter {
    fn greet() -> String {
        "hello".into()
    }
}

#[cfg(target_family = "wasm")]
bindings::export!(Greeter with_types_in bindings);
