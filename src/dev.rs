//! `s3-mirror dev`: everything in one process, nothing to install. Two embedded stores, the
//! proxy in front of the first, the inventory in `SQLite`. State survives a restart.

pub mod store;

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app;
use crate::config::{Config, Environment};
use store::{Store, StoreConfig};

/// Key pair of both stores; they listen on loopback only.
const ACCESS_KEY: &str = "dev";
const SECRET_KEY: &str = "dev-secret";
/// The admin port listens on loopback only, too.
const ADMIN_TOKEN: &str = "s3-mirror-dev-token";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// State.
    pub data_dir: PathBuf,
    /// S3 port of the proxy.
    pub listen: SocketAddr,
    /// Admin port of the proxy.
    pub admin: SocketAddr,
    /// Main store.
    pub main: SocketAddr,
    /// Mirror store.
    pub mirror: SocketAddr,
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A store's directory.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A store's port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The proxy.
    #[error(transparent)]
    Start(#[from] app::StartError),
    /// Cannot happen with the settings made here.
    #[error("{0}")]
    Config(String),
}

/// Runs one store until `stop` resolves.
pub async fn serve_store(
    config: StoreConfig,
    listen: SocketAddr,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), DevError> {
    let store = Store::open(config).await?;
    let listener = TcpListener::bind(listen).await.map_err(|e| DevError::Listen(listen, e))?;
    store.serve(listener, stop).await.map_err(|error| DevError::Listen(listen, error))
}

/// Runs stores and proxy until `stop` resolves; the stores stop last, so that the backlog drains.
pub async fn run(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), DevError> {
    let (stores_stop, stopped) = watch::channel(false);
    let mut stores = tokio::task::JoinSet::new();
    for (name, listen) in [("main", settings.main), ("mirror", settings.mirror)] {
        let store = Store::open(StoreConfig {
            data_dir: settings.data_dir.join(name),
            access_key_id: ACCESS_KEY.into(),
            secret_access_key: SECRET_KEY.into(),
            domains: Vec::new(),
            fsync: false,
        })
        .await?;
        let listener = TcpListener::bind(listen).await.map_err(|e| DevError::Listen(listen, e))?;
        let mut stopped = stopped.clone();
        stores.spawn(async move {
            let stop = async move {
                // An error means that the sender is gone, which is the end too.
                drop(stopped.wait_for(|stopped| *stopped).await);
            };
            if let Err(error) = store.serve(listener, stop).await {
                tracing::error!(name, %error, "the store has stopped");
            }
        });
    }
    let config = config(&settings)?;
    let announced = async {
        welcome(&settings);
        stop.await;
    };
    let result = app::serve(config, announced).await;
    stores_stop.send_replace(true);
    while stores.join_next().await.is_some() {}
    result.map(drop).map_err(DevError::from)
}

fn config(settings: &Settings) -> Result<Config, DevError> {
    let pairs = [
        ("MAIN_S3_ENDPOINT", format!("http://{}", settings.main)),
        ("MAIN_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("MAIN_SECRET_KEY", SECRET_KEY.to_owned()),
        ("MIRROR_S3_ENDPOINT", format!("http://{}", settings.mirror)),
        ("MIRROR_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("MIRROR_SECRET_KEY", SECRET_KEY.to_owned()),
        ("LISTEN_ADDR", settings.listen.to_string()),
        ("ADMIN_ADDR", settings.admin.to_string()),
        ("DATA_DIR", settings.data_dir.join("proxy").display().to_string()),
        ("PROXY_DOMAIN", "localhost".to_owned()),
        ("ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
    ];
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
    let environment = Environment::from_pairs(pairs).map_err(DevError::Config)?;
    Config::from_environment(&environment).map_err(|faults| DevError::Config(faults.join("; ")))
}

#[allow(clippy::print_stdout, reason = "this command talks to a person at a terminal")]
fn welcome(settings: &Settings) {
    let Settings { data_dir, listen, admin, main, mirror } = settings;
    let inventory = data_dir.join("proxy").join("inventory.sqlite");
    let inventory = inventory.display();
    println!(
        "\
s3-mirror dev is ready

  S3 endpoint   http://{listen}   (any credentials, or none)
  operator      http://{admin}/   token for changes: {ADMIN_TOKEN}
  status        http://{admin}/api/v1/status
  metrics       http://{admin}/metrics
  main store    http://{main}   access key {ACCESS_KEY}, secret key {SECRET_KEY}
  mirror store  http://{mirror}   the same keys
  inventory     {inventory}

Try it:

  curl -X PUT http://{listen}/demo
  curl -T README.md http://{listen}/demo/README.md
  curl http://{listen}/demo/README.md
  curl http://{admin}/api/v1/status

  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url http://{listen} s3 cp README.md s3://demo/copy.md
  aws --endpoint-url http://{listen} s3 ls s3://demo

  python3 -c 'import boto3; s3 = boto3.client(\"s3\", endpoint_url=\"http://{listen}\", region_name=\"us-east-1\", aws_access_key_id=\"any\", aws_secret_access_key=\"any\"); s3.put_object(Bucket=\"demo\", Key=\"hello\", Body=b\"world\"); print(s3.get_object(Bucket=\"demo\", Key=\"hello\")[\"Body\"].read())'

Look at the copy on the mirror, and at the inventory:

  AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} aws --endpoint-url http://{mirror} s3 ls s3://demo
  sqlite3 {inventory} 'SELECT path, size, content_type, is_backed_up, deleted FROM bucket_demo'

Ctrl-C stops it; everything stays in {}.",
        data_dir.display()
    );
}
