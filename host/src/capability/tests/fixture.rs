use super::*;

/// One run's capabilities over a temporary directory.
pub struct Fixture {
    pub host: Host,
    pub news: News,
    pub tree: Tree,
    pub dir: Utf8PathBuf,
    _dir: tempfile::TempDir,
}

/// `sh -c script`.
pub fn options(label: &str, script: &str) -> Options {
    Options {
        label: label.into(),
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        far: None,
        env: Vec::new(),
        cwd: None,
        stdin: StdinMode::Null,
    }
}

pub fn program(path: &str) -> Program {
    Program { path: Ok(path.into()), first: Vec::new(), allow: Vec::new(), max_args: None }
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temporary.path().canonicalize().unwrap()).unwrap();
        std::fs::create_dir(dir.join("work")).unwrap();
        let run = RunId::random();
        let ground = crate::tree::Ground::open(&dir, crate::config::Cgroup::Off).unwrap();
        let tree = Tree::new(run, ground);
        let programs = [("sh", "/bin/sh"), ("cat", "/bin/cat"), ("env", "/usr/bin/env"), ("head", "/usr/bin/head")];
        let grant = Grant {
            programs: programs.into_iter().map(|(name, path)| (name.to_owned(), program(path))).collect(),
            workspaces: vec![dir.join("work")],
            ..Grant::default()
        };
        let mut setup = Setup {
            run,
            backend: "exec".into(),
            grant: Arc::new(grant),
            workspaces: Vec::new(),
            cwd: Some(dir.join("work")),
            client_env: ClientEnv::default(),
            tree: tree.clone(),
            artifacts: Artifacts::open(&dir).unwrap(),
            inputs: Inputs::default(),
            log: RunLog::open(&dir.join("run.log"), Vec::new()),
            children: 4,
            blob_bytes: 1024 * 1024,
            far: None,
            told: super::told::Teller::default(),
            sealed: Sealed::default(),
        };
        change(&mut setup);
        let (host, news) = Host::new(setup);
        Self { host, news, tree, dir, _dir: temporary }
    }

    pub async fn spawn(&mut self, options: Options) -> Result<Resource<Child>, SpawnError> {
        self.host.spawn(options).await.unwrap()
    }

    /// A spawn that breaks the contract.
    pub async fn violation(&mut self, options: Options) -> Violation {
        let error = self.host.spawn(options).await.unwrap_err();
        error.downcast_ref::<Violation>().unwrap().clone()
    }

    pub async fn denied(&mut self, options: Options) -> String {
        match self.spawn(options).await {
            Err(SpawnError::Denied(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Whether the bell rang since it was last asked; does not wait.
    pub fn rang(&self) -> bool {
        use std::future::Future;
        let heard = std::pin::pin!(self.news.heard());
        heard.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    pub async fn heard(&self) {
        tokio::time::timeout(SOON, self.news.heard()).await.expect("no news came");
    }

    pub fn out(&mut self, child: &Resource<Child>) -> Received {
        self.host.read_stdout(borrowed(child), 65_536).unwrap()
    }

    pub fn exit(&mut self, child: &Resource<Child>) -> Option<Exit> {
        self.host.exit(borrowed(child)).unwrap().map(|exit| match exit {
            ExitStatus::Code(code) => Exit::Code(code),
            ExitStatus::Signalled(signal) => Exit::Signalled(signal),
            ExitStatus::Unknown => Exit::Unknown,
        })
    }

    /// Reads both to the end and waits for the exit, as a component does.
    pub async fn finish(&mut self, child: &Resource<Child>) -> (String, String, Exit) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let mut ended = 0;
            for (err_too, kept) in [(false, &mut out), (true, &mut err)] {
                loop {
                    let child = borrowed(child);
                    let read = if err_too { self.host.read_stderr(child, 4096) } else { self.host.read_stdout(child, 4096) };
                    match read.unwrap() {
                        Received::Bytes(bytes) => kept.extend(bytes),
                        Received::NotYet => break,
                        Received::End => {
                            ended += 1;
                            break;
                        }
                    }
                }
            }
            if ended == 2
                && let Some(exit) = self.exit(child)
            {
                return (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), exit);
            }
            self.heard().await;
        }
    }

    /// Starts it and gives what it writes.
    pub async fn run(&mut self, options: Options) -> String {
        let child = self.spawn(options).await.unwrap();
        let (out, err, exit) = self.finish(&child).await;
        assert_eq!((err.as_str(), &exit), ("", &Exit::Code(0)), "{out}");
        self.host.drop(child).unwrap();
        out
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.dir.join("run.log")).unwrap_or_default()
    }
}

/// The same resource again, as the guest names it in each call.
pub fn borrowed<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

/// Bytes of this process that are in memory, and the most there ever were.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits for what no event tells of.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + SOON;
    while !is() {
        assert!(tokio::time::Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
