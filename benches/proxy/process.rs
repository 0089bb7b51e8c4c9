//! Child processes: started, measured, and surely ended.
//!
//! A child ends with its handle; if this process is killed, a watchdog ends the child instead.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Fault;

/// The unit of CPU times in `/proc`; a constant of Linux on every architecture.
const TICK: Duration = Duration::from_millis(10);
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running child and its own children.
pub(crate) struct Process {
    name: String,
    child: Child,
    watchdog: Child,
}

impl Process {
    /// Starts a command and waits until it accepts connections on `address`.
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        address: SocketAddr,
    ) -> Result<Self, Fault> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
        // Reads "done", or the end of the pipe when this process is gone.
        let watchdog = Command::new("sh")
            .args(["-c", "read -r word; [ \"$word\" = done ] || kill -TERM \"$1\"", "watchdog"])
            .arg(child.id().to_string())
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()?;
        let mut process = Self { name: name.to_owned(), child, watchdog };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("{name} ended at once: {status}").into());
            }
            if Instant::now() > deadline {
                return Err(format!("{name} does not listen on {address}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(process)
    }

    /// CPU time used so far, user and system, the children of the process included.
    pub(crate) fn cpu(&self) -> Duration {
        self.tree().into_iter().map(cpu_of).sum()
    }

    /// Resident memory in KiB; what children share is counted for each.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.tree().into_iter().map(|pid| status_kib(pid, "VmRSS:")).sum()
    }

    fn tree(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }

    /// Ends the process at once, without letting it clean up.
    pub(crate) fn kill(mut self) {
        self.child.kill().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            pipe.write_all(b"done\n").ok();
        }
        self.watchdog.wait().ok();
        // nginx's workers end only with a master that is asked politely.
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status().ok();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        eprintln!("{} does not end; killing it", self.name);
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in parentheses and may hold anything; user and system time
    // are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u32>().ok()).sum();
    TICK * ticks
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// An address nobody listens on now.
pub(crate) fn free_address() -> Result<SocketAddr, Fault> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Is a program installed?
pub(crate) fn installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .any(|directory| Path::new(directory).join(program).exists())
}
