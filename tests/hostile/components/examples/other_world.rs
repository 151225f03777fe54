//! A component, and no backend.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package other:thing@1.0.0;
            world greeter { export greet: func() -> string; }
        ",
    });
}

#[cfg(target_family = "wasm")]
struct Greeter;

#[cfg(target_family = "wasm")]
impl bindings::Guest for Greeter {
    fn greet() -> String {
        "hello".into()
    }
}

#[cfg(target_family = "wasm")]
bindings::export!(Greeter with_types_in bindings);
