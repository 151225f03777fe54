//! Written for a version of the contract that is yet to come.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package falconer:backend@9.0.0;
            interface adapter {
                describe: func() -> string;
                start: func(job: string) -> result<_, string>;
            }
            world backend { export adapter; }
        ",
    });
}

struct Future;

impl bindings::exports::falconer::backend::adapter::Guest for Future {
    fn describe() -> String {
        "from the future".into()
    }
    fn start(_job: String) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(target_family = "wasm")]
bindings::export!(Future with_types_in bindings);
