//! The private directory of a run at a target: ssh's configuration, and the pipe for what ssh has to say.
//!
//! `DATA/far/RUN/LABEL/`, all of it for us alone. It goes when its [`Scratch`] goes; what an earlier host left is taken away when
//! the next one begins ([`clear`]). Nothing in it outlives its run's need.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::capability::Log;
use crate::id::RunId;

const FOLDER: &str = "far";

/// A run's private directory. Nothing is made before it is needed.
#[derive(Debug)]
pub struct Scratch {
    dir: Utf8PathBuf,
}

/// The directory of one child.
#[derive(Debug)]
pub struct Room {
    dir: Utf8PathBuf,
}

impl Scratch {
    /// Of this run.
    #[must_use]
    pub fn of(data_dir: &Utf8Path, run: RunId) -> Self {
        Self { dir: data_dir.join(FOLDER).join(run.to_string()) }
    }

    /// A new directory for the child of this label.
    ///
    /// # Errors
    /// What the system says.
    pub fn room(&self, label: &str) -> io::Result<Room> {
        let dir = self.dir.join(label);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Room { dir })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is taken away by the next host.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What stays goes with the run.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Room {
    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// Where a file of it is.
    #[must_use]
    pub fn file(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }

    /// Writes a file, readable by us alone.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file(name))?;
        file.write_all(text.as_bytes())
    }

    /// A named pipe. It holds a page (PIPE_BUF) at the least, and a program that fills it waits: it is to be read.
    ///
    /// # Errors
    /// What the system says.
    pub fn log(&self) -> io::Result<Log> {
        let path = self.file(super::LOG);
        rustix::fs::mknodat(CWD, path.as_std_path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let open = |flags| rustix::fs::open(path.as_std_path(), flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        // In this order: a pipe that nobody reads cannot be opened for writing alone (fifo(7)).
        let reader = open(OFlags::RDONLY)?;
        let held = open(OFlags::WRONLY)?;
        Ok(Log { path: path.into_string(), reader, held })
    }
}

/// Takes away what earlier hosts left. To be called before any run of this host begins.
pub fn clear(data_dir: &Utf8Path) {
    let dir = data_dir.join(FOLDER);
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%dir, %error, "what runs at targets left behind cannot be taken away");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_room_is_ours_alone_and_goes_with_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let data = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        let scratch = Scratch::of(&data, RunId::random());
        let room = scratch.room("ssh-1").unwrap();
        room.write("config", "Host x\n").unwrap();
        let log = room.log().unwrap();
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(room.dir.as_str()), mode(room.file("config").as_str()), mode(&log.path)), (0o700, 0o600, 0o600));
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::read(&log.reader, &mut bytes), Err(rustix::io::Errno::AGAIN), "it is not at its end");
        fs::write(&log.path, "said").unwrap();
        drop(log.held);
        assert_eq!((rustix::io::read(&log.reader, &mut bytes), &bytes[..4]), (Ok(4), &b"said"[..]));
        assert_eq!(rustix::io::read(&log.reader, &mut bytes), Ok(0));
        let path = room.dir.clone();
        drop(room);
        assert!(!path.exists(), "a child's own goes with it");
        let left = scratch.room("ssh-1").unwrap();
        drop(scratch);
        drop(left);
        assert!(fs::read_dir(data.join(FOLDER)).unwrap().next().is_none());
        clear(&data);
        assert!(!data.join(FOLDER).exists());
        clear(&data);
    }
}
