//! P6: memory does not grow with the size or the number of objects under way.
//!
//! The real binary between two stubs: eight uploads, then eight downloads at a time, each of
//! `MEMORY_TEST_BYTES` (1 GiB unless said otherwise), while the mirror is written too. What counts
//! is the kernel's own high-water mark of the process. `S3_MIRROR_BIN` tests another build.
#![allow(clippy::unwrap_used, reason = "a test says that it failed by panicking")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rules are for the product; tests wait for real processes in real time"
)]
#![allow(clippy::print_stdout, reason = "the figure is worth seeing")]

#[path = "support/load.rs"]
mod load;
#[path = "support/stub.rs"]
mod stub;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use load::{Connection, Payload};
use stub::{Role, Stub};
use tokio::task::JoinSet;

const PARALLEL: u64 = 8;
/// A promise of the README.
const LIMIT_KIB: u64 = 100 * 1024;
const OBJECT_BYTES: u64 = 1 << 30;

/// The service under test; killed with the test.
struct Service {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Service {
    async fn start(directory: &Path, main: SocketAddr, mirror: SocketAddr, database: bool) -> Self {
        let (listen, admin) = (free_address(), free_address());
        let built = env!("CARGO_BIN_EXE_s3-mirror").to_owned();
        let child = Command::new(std::env::var("S3_MIRROR_BIN").unwrap_or(built))
            .arg("serve")
            .env_clear()
            .env("MAIN_S3_ENDPOINT", format!("http://{main}"))
            .env("MAIN_ACCESS_KEY", "main")
            .env("MAIN_SECRET_KEY", "main-secret")
            .env("MIRROR_S3_ENDPOINT", format!("http://{mirror}"))
            .env("MIRROR_ACCESS_KEY", "mirror")
            .env("MIRROR_SECRET_KEY", "mirror-secret")
            .env("DISABLE_DATABASE", (!database).to_string())
            .env("LISTEN_ADDR", listen.to_string())
            .env("ADMIN_ADDR", admin.to_string())
            .env("DATA_DIR", directory)
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self { child, listen, admin };
        let deadline = Instant::now() + Duration::from_secs(30);
        while get(admin, "/readyz").await.is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < deadline, "the service is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    /// A line of `/proc/<pid>/status` in KiB.
    fn status_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    async fn drained(&self) {
        let deadline = Instant::now() + Duration::from_mins(5);
        loop {
            let (_, status) = get(self.admin, "/api/v1/status").await.unwrap();
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let left = [
                &status["mirror"]["pending_operations"],
                &status["mirror"]["parked"],
                &status["inventory"]["pending_rows"],
                &status["unsettled_intents"],
            ]
            .map(|figure| figure.as_i64().unwrap());
            if left == [0; 4] {
                return;
            }
            assert!(Instant::now() < deadline, "the backlog does not drain: {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Status and body of a small answer.
async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn object_bytes() -> u64 {
    std::env::var("MEMORY_TEST_BYTES").map_or(OBJECT_BYTES, |bytes| bytes.parse().unwrap())
}

async fn in_parallel(address: SocketAddr, method: &'static str, size: u64) {
    let mut transfers = JoinSet::new();
    for number in 0..PARALLEL {
        transfers.spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let payload = Payload::Zeros(if method == "PUT" { size } else { 0 });
            let path = format!("/memory/{size}/{number}");
            let headers = "Content-Type: application/octet-stream\r\n";
            connection.request(method, &path, headers, &payload).await.unwrap()
        });
    }
    while let Some(transfer) = transfers.join_next().await {
        assert_eq!(transfer.unwrap(), (200, size), "{method}");
    }
}

async fn peak_of_large_transfers(database: bool) {
    let size = object_bytes();
    assert!(size * PARALLEL > 5 * LIMIT_KIB * 1024, "too small to prove anything");
    let directory = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let main = Stub::start(any, Role::Main).await.unwrap();
    let mirror = Stub::start(any, Role::Mirror).await.unwrap();
    let service =
        Service::start(directory.path(), main.address(), mirror.address(), database).await;
    let idle = service.status_kib("VmRSS:");
    let start = Instant::now();

    in_parallel(service.listen, "PUT", size).await;
    let uploaded = start.elapsed();
    in_parallel(service.listen, "GET", size).await;
    service.drained().await;

    let total = PARALLEL * size;
    assert_eq!(main.counts().put.bytes, total);
    assert_eq!(mirror.counts().put.bytes, total, "every byte reached the mirror, once");
    let peak = service.status_kib("VmHWM:");
    println!(
        "{PARALLEL} x {} MiB up in {:.1} s, down and mirrored in {:.1} s, {}: resident memory \
         idle {:.1} MiB, peak {:.1} MiB",
        size >> 20,
        uploaded.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        if database { "SQLite inventory" } else { "mirror only" },
        mib(idle),
        mib(peak),
    );
    assert!(peak < LIMIT_KIB, "peak resident memory {:.1} MiB", mib(peak));
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap()) / 1024.0
}

/// One after the other, because both want every core.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_transfers_do_not_grow_the_process() {
    peak_of_large_transfers(false).await;
    peak_of_large_transfers(true).await;
}
