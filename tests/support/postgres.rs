//! A real `PostgreSQL` for tests: a throw-away cluster on a free loopback port.
//!
//! - `Postgres::start()` makes a cluster of its own (about a second), which the test may stop,
//!   start again and reconfigure. `database_url()` gives a fresh database in the cluster that
//!   `TEST_DATABASE_URL` names, or else in one that the whole test process shares.
//! - The server programs are looked for in `PG_BIN_DIR`, then `PATH`, then where Debian, Ubuntu,
//!   Homebrew and Postgres.app put them. If there are none the test fails and says what to install.
//! - `PostgreSQL` refuses to run as root: started by root, it runs as `postgres`, else `nobody`.
//! - A watchdog process holds a pipe from the test. When the test process ends, however it ends,
//!   the pipe closes, and the watchdog stops the server and removes the directory.
//! - TCP only: the path of a Unix socket is limited to about 104 bytes on some systems.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this file uses a part"
)]

#[path = "postgres_programs.rs"]
mod programs;

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for the server to say that it is ready, or to stop.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Numbers the clusters and databases of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How a cluster is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Password of the superuser `postgres`, asked for by SCRAM; `None`: nobody is asked.
    pub password: Option<String>,
    /// Further `name=value` settings of the server.
    pub settings: Vec<String>,
}

/// A running cluster; dropping it stops the server and removes the data.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
    options: Options,
    server: Option<Child>,
    watchdog: Child,
}

impl Postgres {
    /// A cluster with the default options.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A cluster with these options.
    pub fn start_with(options: Options) -> Self {
        let programs = programs::programs();
        let owner = programs::owner();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("s3-mirror-pg-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("the cluster's directory can be made");
        if let Some((user, group)) = owner {
            chown(&directory, Some(user), Some(group)).expect("root may give a directory away");
        }
        let watchdog = watchdog(&directory);
        let port = free_port();
        let mut cluster =
            Self { programs, directory, port, owner, options, server: None, watchdog };
        cluster.init();
        cluster.launch();
        cluster
    }

    /// The port on 127.0.0.1; it stays the same over [`Self::restart`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The cluster's directory, for files that the server shall read.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// URL of a database of this cluster, as superuser and without TLS. The database need not
    /// exist.
    pub fn url(&self, database: &str) -> String {
        let password = self.options.password.as_ref().map(|p| format!(":{p}")).unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Stops the server at once, as a crash would: connections are cut, nothing is flushed.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        signal("QUIT", server.id());
        wait_for_end(&mut server);
    }

    /// Starts the server again, on the same port and data, after [`Self::stop`].
    pub fn launch(&mut self) {
        assert!(self.server.is_none(), "the server is running already");
        // A crash leaves these behind; the server replaces them, we read the first.
        remove_if_there(&self.directory.join("data/postmaster.pid"));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("server.log"))
            .expect("the server's log can be opened");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.directory.join("data"));
        command.arg("-p").arg(self.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // Nobody pulls the plug. A commit is still written to the system before it is
            // answered, so it survives `stop`.
            "fsync=off",
            "full_page_writes=off",
        ] {
            command.arg("-c").arg(setting);
        }
        for setting in &self.options.settings {
            command.arg("-c").arg(setting);
        }
        let errors = log.try_clone().expect("a file handle can be cloned");
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.server = Some(command.spawn().expect("the server program starts"));
        self.wait_until_ready();
    }

    /// Stops and starts the server; established connections die.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Stops the server and starts it with these settings instead of the former.
    pub fn restart_with(&mut self, settings: &[&str]) {
        self.options.settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        self.restart();
    }

    /// Writes a file that only the server's user may read, such as a private key.
    pub fn write_private(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, content).expect("the cluster's directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode can be set");
        if let Some((user, group)) = self.owner {
            chown(&path, Some(user), Some(group)).expect("root may give a file away");
        }
        path
    }

    fn init(&self) {
        let mut command = self.command("initdb");
        command.arg("-D").arg(self.directory.join("data"));
        command.args(["-U", "postgres", "-E", "UTF8", "--locale=C"]);
        command.args(["--no-sync", "--no-instructions"]);
        match &self.options.password {
            None => {
                command.args(["-A", "trust"]);
            }
            Some(password) => {
                let file = self.write_private("password", password.as_bytes());
                command.args(["-A", "scram-sha-256", "--pwfile"]).arg(file);
            }
        }
        let output = command.stdin(Stdio::null()).output().expect("initdb starts");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        // The server's messages are part of what tests see; and a stray PG* variable is not.
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        command.current_dir(&self.directory);
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn wait_until_ready(&mut self) {
        let status = self.directory.join("data/postmaster.pid");
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = fs::read_to_string(&status).unwrap_or_default();
            if text.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return;
            }
            let server = self.server.as_mut().expect("the server was started");
            let ended = server.try_wait().expect("the server can be waited for");
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
                panic!("PostgreSQL did not become ready ({ended:?}); its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        // Closing its input tells the watchdog to remove the directory and to end.
        drop(self.watchdog.stdin.take());
        wait_for_end(&mut self.watchdog);
    }
}

/// URL of a fresh, empty database: in the cluster that `TEST_DATABASE_URL` names (superuser, no
/// TLS; the databases `s3_mirror_test_*` stay there for a look), or else in one that all tests of
/// this process share.
pub async fn database_url() -> String {
    let name = format!(
        "s3_mirror_test_{}_{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    );
    let server = std::env::var("TEST_DATABASE_URL").unwrap_or_else(|_| {
        // Never dropped, being a static: the watchdog cleans up when the process ends.
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start).url("postgres")
    });
    let client = connect(&server).await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("CREATE DATABASE");
    let (address, query) = server.split_once('?').unwrap_or((&server, ""));
    let (scheme, rest) = address.split_once("//").expect("TEST_DATABASE_URL is a URL");
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}//{host}/{name}?{query}")
}

/// A plain connection for a test's own looks at the tables.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(async move {
        // The end of the connection is reported to whoever waits on the client.
        drop(connection.await);
    });
    client
}

fn watchdog(directory: &Path) -> Child {
    let script = r#"
        cat >/dev/null
        pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
        if [ -n "$pid" ]; then
            kill -QUIT "$pid" 2>/dev/null
            for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        fi
        rm -rf "$1""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "watchdog"]).arg(directory);
    // Its own group: a Ctrl-C for the tests must not end it before its work.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sh starts")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn signal(name: &str, process: u32) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "the server was not running");
}

fn wait_for_end(process: &mut Child) {
    let deadline = Instant::now() + START_TIMEOUT;
    while process.try_wait().expect("a child can be waited for").is_none() {
        assert!(Instant::now() < deadline, "process {} does not end", process.id());
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Some(mut output) = process.stdout.take() {
        drop(output.read_to_end(&mut Vec::new()));
    }
}

fn remove_if_there(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => {}
    }
}
