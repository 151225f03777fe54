//! Capabilities that refuse everything (stands in until the module is merged).
#![expect(missing_docs, reason = "stands in")]
use super::{Host, blobs::Writer, process::Child};
use crate::contract::falconer::backend::{blobs, log, process, secret, types};
use wasmtime::component::Resource;

impl types::Host for Host {}
impl process::Host for Host {
    async fn spawn(&mut self, _: process::Options) -> wasmtime::Result<Result<Resource<Child>, process::SpawnError>> {
        Ok(Err(process::SpawnError::Denied("refused".into())))
    }
}
impl process::HostChild for Host {
    fn pid(&mut self, _: Resource<Child>) -> wasmtime::Result<u32> {
        Ok(0)
    }
    fn read_stdout(&mut self, _: Resource<Child>, _: u32) -> wasmtime::Result<types::Received> {
        Ok(types::Received::End)
    }
    fn read_stderr(&mut self, _: Resource<Child>, _: u32) -> wasmtime::Result<types::Received> {
        Ok(types::Received::End)
    }
    fn write_stdin(&mut self, _: Resource<Child>, _: Vec<u8>) -> wasmtime::Result<Result<u32, types::IoError>> {
        Ok(Ok(0))
    }
    fn close_stdin(&mut self, _: Resource<Child>) -> wasmtime::Result<()> {
        Ok(())
    }
    fn signal(&mut self, _: Resource<Child>, _: process::Signal) -> wasmtime::Result<Result<(), types::IoError>> {
        Ok(Ok(()))
    }
    fn exit(&mut self, _: Resource<Child>) -> wasmtime::Result<Option<process::ExitStatus>> {
        Ok(None)
    }
    fn drop(&mut self, _: Resource<Child>) -> wasmtime::Result<()> {
        Ok(())
    }
}
impl secret::Host for Host {
    fn read(&mut self, _: String) -> wasmtime::Result<Result<Vec<u8>, secret::SecretError>> {
        Ok(Err(secret::SecretError::Denied))
    }
    fn available(&mut self, _: String) -> wasmtime::Result<bool> {
        Ok(false)
    }
}
impl blobs::Host for Host {
    fn read(&mut self, _: String, _: u64, _: u32) -> wasmtime::Result<Result<Vec<u8>, types::Failure>> {
        Ok(Ok(vec![]))
    }
    fn create(&mut self) -> wasmtime::Result<Result<Resource<Writer>, types::Failure>> {
        Ok(Ok(self.table.push(Writer {})?))
    }
}
impl blobs::HostWriter for Host {
    fn write(&mut self, _: Resource<Writer>, _: Vec<u8>) -> wasmtime::Result<Result<(), types::Failure>> {
        Ok(Ok(()))
    }
    fn seal(&mut self, _: Resource<Writer>) -> wasmtime::Result<Result<String, types::Failure>> {
        Ok(Ok(String::new()))
    }
    fn drop(&mut self, _: Resource<Writer>) -> wasmtime::Result<()> {
        Ok(())
    }
}
impl log::Host for Host {
    fn write(&mut self, _: types::Severity, _: String) -> wasmtime::Result<()> {
        Ok(())
    }
}
