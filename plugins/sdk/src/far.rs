use crate::OutputKind;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked { Proc, Group }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trailer { Exited { status: u8, left: u32, killed: u32, looked: Looked, totals: Option<(u64, u64)> }, Ended { left: u32, killed: u32, looked: Looked }, Fail { code: String, detail: String } }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State { Waiting, Begun { pid: u32 }, Ended(Trailer), Gone }
#[derive(Debug)]
pub struct Link { state: State }
pub fn nonce() -> String { String::new() }
impl Link {
    pub fn new(_: String) -> Self { Self { state: State::Waiting } }
    pub fn first_line(&self) -> Vec<u8> { vec![] }
    pub fn stdout(&mut self, b: Vec<u8>) -> Vec<u8> { b }
    pub fn stderr(&mut self, b: Vec<u8>) -> Vec<u8> { b }
    pub fn finish(&mut self, _: OutputKind) -> Vec<u8> { vec![] }
    pub fn state(&self) -> &State { &self.state }
    pub fn noise(&self) -> &[u8] { &[] }
}
