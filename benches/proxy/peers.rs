//! Who is measured: nothing in between, nginx, `HAProxy`, and s3-mirror in its modes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Fault;
use crate::http::{Backlog, backlog, post};
use crate::process::{Process, free_address, installed};

/// Something that takes S3 requests.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Absent for the stub itself.
    pub(crate) process: Option<Process>,
    /// The admin port of an s3-mirror whose backlog drains.
    pub(crate) admin: Option<SocketAddr>,
}

/// The stubs behind every peer.
pub(crate) struct Stubs {
    pub(crate) main: SocketAddr,
    pub(crate) mirror: SocketAddr,
    _processes: [Process; 2],
}

impl Stubs {
    /// Starts them, each as a process of its own.
    pub(crate) fn start() -> Result<Self, Fault> {
        let (main, main_process) = stub("main")?;
        let (mirror, mirror_process) = stub("mirror")?;
        Ok(Self { main, mirror, _processes: [main_process, mirror_process] })
    }

    /// Makes the mirror hold its answers back, or go on.
    pub(crate) async fn hold_mirror(&self, hold: bool) -> Result<(), Fault> {
        post(self.mirror, if hold { "/-/hold" } else { "/-/release" }).await.map(drop)
    }
}

fn stub(role: &str) -> Result<(SocketAddr, Process), Fault> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["stub", role, &address.to_string()]);
    Ok((address, Process::start("stub", &mut command, address)?))
}

/// How an s3-mirror is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    /// What differs from mirror-only, no log, everything else as it is by default.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Is mirroring going on? Otherwise it has been paused, and the backlog only grows.
    pub(crate) mirrors: bool,
}

const fn mode(name: &'static str, environment: &'static [(&'static str, &'static str)]) -> Mode {
    Mode { name, environment, mirrors: true }
}

/// Of an admin port that only the benchmark can reach.
const ADMIN_TOKEN: &str = "benchmark-of-this-machine";

/// The mode the targets are about: mirror-only, `JOURNAL_SYNC=full`, no log.
pub(crate) const PLAIN: Mode = mode("s3-mirror", &[]);
/// With a log line per request.
pub(crate) const LOGGING: Mode = mode("s3-mirror, LOG_LEVEL=info", &[("LOG_LEVEL", "info")]);
/// With a journal that is never synced.
pub(crate) const UNSYNCED: Mode = mode("s3-mirror, JOURNAL_SYNC=off", &[("JOURNAL_SYNC", "off")]);
/// As the only writer.
pub(crate) const OVERLAP: Mode = mode("s3-mirror, FENCE=overlap", &[("FENCE", "overlap")]);
/// With the embedded inventory.
pub(crate) const SQLITE: Mode =
    mode("s3-mirror, SQLite inventory", &[("DISABLE_DATABASE", "false")]);
/// With mirroring paused by its operator.
pub(crate) const PAUSED: Mode =
    Mode { name: "s3-mirror, mirroring paused", environment: &[], mirrors: false };

/// Starts an s3-mirror.
pub(crate) fn s3_mirror(mode: Mode, stubs: &Stubs, directory: &Path) -> Result<Peer, Fault> {
    let (address, admin) = (free_address()?, free_address()?);
    // Another build can be measured with the same benchmark.
    let built = env!("CARGO_BIN_EXE_s3-mirror").to_owned();
    let program = std::env::var("S3_MIRROR_BIN").unwrap_or(built);
    let mut command = Command::new(&program);
    command
        .arg("serve")
        .env_clear()
        .env("MAIN_S3_ENDPOINT", format!("http://{}", stubs.main))
        .env("MAIN_ACCESS_KEY", "main")
        .env("MAIN_SECRET_KEY", "main-secret")
        .env("MIRROR_S3_ENDPOINT", format!("http://{}", stubs.mirror))
        .env("MIRROR_ACCESS_KEY", "mirror")
        .env("MIRROR_SECRET_KEY", "mirror-secret")
        .env("DISABLE_DATABASE", "true")
        .env("LOG_LEVEL", "off")
        .env("LISTEN_ADDR", address.to_string())
        .env("ADMIN_ADDR", admin.to_string())
        .env("DRAIN_TIMEOUT_SECONDS", "0")
        .env("DATA_DIR", directory)
        .envs(mode.environment.iter().copied());
    if !mode.mirrors {
        command.env("ADMIN_TOKEN", ADMIN_TOKEN);
    }
    let process = Process::start(mode.name, &mut command, address)?;
    if !mode.mirrors {
        let mut pause = Command::new(program);
        pause
            .args(["pause", "--admin", &format!("http://{admin}")])
            .env("ADMIN_TOKEN", ADMIN_TOKEN);
        if !pause.stdout(Stdio::null()).status()?.success() {
            return Err("mirroring cannot be paused".into());
        }
    }
    Ok(Peer {
        name: mode.name,
        address,
        process: Some(process),
        admin: mode.mirrors.then_some(admin),
    })
}

/// nginx, a plain proxy and one with its `mirror` module, if it is installed.
pub(crate) fn nginx(stubs: &Stubs, directory: &Path) -> Result<Vec<Peer>, Fault> {
    let mut peers = Vec::new();
    if !installed("nginx") {
        return Ok(peers);
    }
    for (name, mirrors) in [("nginx", false), ("nginx with mirror", true)] {
        let address = free_address()?;
        let work = directory.join(name.replace(' ', "-"));
        fs::create_dir_all(&work)?;
        let file = work.join("nginx.conf");
        fs::write(&file, nginx_configuration(&work, address, stubs, mirrors))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&work).arg("-c").arg(&file).stderr(Stdio::inherit());
        let process = Process::start(name, &mut command, address)?;
        peers.push(Peer { name, address, process: Some(process), admin: None });
    }
    Ok(peers)
}

fn nginx_configuration(work: &Path, address: SocketAddr, stubs: &Stubs, mirrors: bool) -> String {
    let (work, Stubs { main, mirror, .. }) = (work.display(), stubs);
    // The mirror module needs the whole body before it begins; without it nothing is buffered.
    let (mirroring, location) = if mirrors {
        let location = "location = /mirror { internal; proxy_pass http://mirror$request_uri; }";
        ("mirror /mirror;", location)
    } else {
        ("proxy_request_buffering off;", "")
    };
    format!(
        "daemon off; worker_processes auto; pid {work}/pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; server_tokens off; client_max_body_size 0;\n\
           client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;\n\
           fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;\n\
           keepalive_requests 1000000000; tcp_nodelay on;\n\
           proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;\n\
           proxy_buffer_size 64k; proxy_buffers 8 64k; client_body_buffer_size 64k;\n\
           upstream main {{ server {main}; keepalive 512; keepalive_requests 1000000000; }}\n\
           upstream mirror {{ server {mirror}; keepalive 512; keepalive_requests 1000000000; }}\n\
           server {{\n\
             listen {address} backlog=4096;\n\
             location / {{ {mirroring} proxy_pass http://main; }}\n\
             {location}\n\
           }}\n\
         }}\n"
    )
}

/// `HAProxy`, if it is installed.
pub(crate) fn haproxy(stubs: &Stubs, directory: &Path) -> Result<Option<Peer>, Fault> {
    if !installed("haproxy") {
        return Ok(None);
    }
    let address = free_address()?;
    let file = directory.join("haproxy.cfg");
    let main = stubs.main;
    let text = format!(
        "global\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         \x20 http-reuse always\n\
         frontend s3\n  bind {address}\n  default_backend main\n\
         backend main\n  server main {main}\n"
    );
    fs::write(&file, text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-q").arg("-f").arg(&file);
    let process = Process::start("HAProxy", &mut command, address)?;
    Ok(Some(Peer { name: "HAProxy", address, process: Some(process), admin: None }))
}

impl Peer {
    /// Waits until everything accepted is on the mirror and in the inventory.
    pub(crate) async fn drained(&self) -> Result<(), Fault> {
        let Some(admin) = self.admin else { return Ok(()) };
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(10);
        loop {
            let left = backlog(admin).await?;
            if left == (Backlog { parked: left.parked, ..Backlog::default() }) {
                return match left.parked {
                    0 => Ok(()),
                    parked => Err(format!("{}: {parked} keys are parked", self.name).into()),
                };
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("{}: the backlog does not drain: {left:?}", self.name).into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
