//! The benchmark: s3-mirror beside plain proxies, in the same run on the same machine.
//!
//! Every peer stands in front of the same stub S3. Peers are loaded one at a time, in alternating
//! order, over several rounds; medians are reported. Absolute figures belong to the machine; only
//! the ratios between peers of one run mean something. Run it with `scripts/bench`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rules are for the product; a benchmark waits for real processes in real time"
)]
#![allow(clippy::print_stdout, reason = "the report goes to the standard output")]

mod gate;
mod http;
mod life;
#[path = "../../tests/support/load.rs"]
mod load;
mod peers;
mod process;
mod scenario;
#[path = "../../tests/support/stub.rs"]
mod stub;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use peers::{Mode, Peer, Stubs};
use scenario::{QUICK, SCENARIOS, Sample, Scenario};
use stub::Role;
use table::Row;

/// Why a benchmark could not be run, or what it found wrong.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Who is measured beside s3-mirror.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Everybody,
    Nginx,
    Nobody,
}

/// What the command line asks for.
struct Options {
    /// Few scenarios, compared with the committed ratios.
    quick: bool,
    /// Commit the ratios that are found.
    accept: bool,
    /// Load s3-mirror alone, for the profile that it is built with.
    train: bool,
    rounds: usize,
    duration: Duration,
    /// Entries of the backlog scenario.
    backlog: u64,
    /// Only scenarios whose name holds this.
    filter: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = match arguments.first().map(String::as_str) {
        Some("stub") => runtime.block_on(serve_stub(&arguments)),
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            options(&arguments).and_then(|options| runtime.block_on(run(&options)))
        }
        // `cargo test --all-targets` runs every bench without arguments.
        _ => {
            println!("nothing measured; scripts/bench runs this");
            Ok(())
        }
    };
    result.map_or_else(|fault| failed(&fault), |()| ExitCode::SUCCESS)
}

fn failed(fault: &Fault) -> ExitCode {
    eprintln!("bench: {fault}");
    ExitCode::FAILURE
}

/// `stub <role> <address>`: a stub as a process of its own, so that its CPU time is its own.
async fn serve_stub(arguments: &[String]) -> Result<(), Fault> {
    let [_, role, address] = arguments else {
        return Err("stub needs a role and an address".into());
    };
    let role = if role == "main" { Role::Main } else { Role::Mirror };
    let _stub = stub::Stub::start(address.parse()?, role).await?;
    std::future::pending().await
}

fn options(arguments: &[String]) -> Result<Options, Fault> {
    let mut options = Options {
        quick: false,
        accept: false,
        train: false,
        rounds: 3,
        duration: Duration::from_secs(3),
        backlog: 1_000_000,
        filter: String::new(),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--accept" => options.accept = true,
            "--train" => options.train = true,
            "--rounds" => options.rounds = value()?.parse()?,
            "--seconds" => options.duration = Duration::from_secs(value()?.parse()?),
            "--backlog" => options.backlog = value()?.parse()?,
            unknown if unknown.starts_with('-') => {
                return Err(format!("unknown option {unknown}").into());
            }
            filter => filter.clone_into(&mut options.filter),
        }
    }
    Ok(options)
}

async fn run(options: &Options) -> Result<(), Fault> {
    scenario::check_tools()?;
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    scenario::write_scripts(directory)?;
    let stubs = Stubs::start()?;
    let gated = options.quick || options.accept;
    let beside = if options.train {
        Beside::Nobody
    } else if gated {
        Beside::Nginx
    } else {
        Beside::Everybody
    };
    let modes: &[Mode] = match beside {
        Beside::Nginx => &[peers::PLAIN],
        Beside::Nobody => {
            &[peers::PLAIN, peers::LOGGING, peers::OVERLAP, peers::SQLITE, peers::PAUSED]
        }
        Beside::Everybody => &[
            peers::PLAIN,
            peers::LOGGING,
            peers::UNSYNCED,
            peers::OVERLAP,
            peers::SQLITE,
            peers::PAUSED,
        ],
    };
    let mut ratios = BTreeMap::new();
    for scenario in SCENARIOS {
        let wanted = !gated || QUICK.contains(&scenario.name);
        if !wanted || !scenario.name.contains(&options.filter) {
            continue;
        }
        let peers = line_up(scenario, modes, beside, &stubs, directory)?;
        let rows = measure(scenario, &peers, options, directory).await?;
        table::print(scenario, &rows);
        if gated {
            ratios.insert(scenario.name.to_owned(), gate::ratio(&rows)?);
        }
    }
    if options.accept {
        return gate::accept(&ratios);
    }
    if options.quick {
        return gate::check(&ratios);
    }
    if options.train {
        return Ok(());
    }
    life::measure(&stubs, directory, options).await
}

/// Starts the peers a scenario is for. Each scenario has fresh ones, so that memory figures are
/// its own.
fn line_up(
    scenario: &Scenario,
    modes: &[Mode],
    beside: Beside,
    stubs: &Stubs,
    directory: &Path,
) -> Result<Vec<Peer>, Fault> {
    let mut peers = Vec::new();
    if beside == Beside::Everybody {
        peers.push(Peer { name: "direct", address: stubs.main, process: None, admin: None });
    }
    if beside != Beside::Nobody {
        peers.extend(peers::nginx(stubs, directory)?);
        let mirrored = scenario.writes() && beside == Beside::Everybody;
        peers.retain(|peer| peer.name != "nginx with mirror" || mirrored);
    }
    if beside == Beside::Everybody {
        peers.extend(peers::haproxy(stubs, directory)?);
    }
    for (number, mode) in modes.iter().enumerate() {
        // A read knows no journal and no inventory; a log line is noise beside megabytes.
        let sensible = match mode.name {
            name if name == peers::PLAIN.name => true,
            name if name == peers::LOGGING.name => !scenario.large(),
            name if name == peers::PAUSED.name => scenario.writes() && scenario.large(),
            _ => scenario.writes(),
        };
        if sensible {
            let data = directory.join(format!("data-{number}-{:08x}", fastrand::u32(..)));
            peers.push(peers::s3_mirror(*mode, stubs, &data)?);
        }
    }
    Ok(peers)
}

async fn measure(
    scenario: &Scenario,
    peers: &[Peer],
    options: &Options,
    scripts: &Path,
) -> Result<Vec<Row>, Fault> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); peers.len()];
    for round in 0..=options.rounds {
        let mut order: Vec<usize> = (0..peers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            // The first round fills pools and caches and is forgotten.
            let duration = if round == 0 { Duration::from_secs(1) } else { options.duration };
            let sample = scenario::measure(scenario, &peers[at], duration, scripts).await?;
            if round > 0 {
                samples[at].push(sample);
            }
        }
    }
    let rows = peers.iter().zip(&samples);
    Ok(rows.map(|(peer, samples)| Row::of(peer.name, scenario, samples)).collect())
}
