//! The change feed: what listeners of a `PostgreSQL` channel hear.

use std::future::poll_fn;
use std::time::Duration;

use s3_mirror::inventory::row::Row;
use s3_mirror::inventory::store::Store;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::inventory::{Database, absent, present, settings, store};

/// A session that listens; what it hears, as JSON.
struct Listener {
    client: tokio_postgres::Client,
    heard: mpsc::UnboundedReceiver<Value>,
}

impl Listener {
    async fn new(url: &str, channel: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(notification) = message {
                    assert!(notification.payload().len() < 8000);
                    drop(tell.send(serde_json::from_str(notification.payload()).unwrap()));
                }
            }
        });
        client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();
        Self { client, heard }
    }

    async fn next(&mut self) -> Value {
        let heard = tokio::time::timeout(Duration::from_secs(30), self.heard.recv()).await;
        heard.expect("something is told").unwrap()
    }

    /// Everything told so far: what a message of its own, sent last, comes behind.
    async fn all(&mut self, channel: &str) -> Vec<Value> {
        let end = format!("SELECT pg_notify('{channel}', '\"end\"')");
        self.client.batch_execute(&end).await.unwrap();
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Value::String(_) => return all,
                told => all.push(told),
            }
        }
    }
}

async fn telling(url: &str) -> Store {
    let mut settings = settings(url);
    settings.notify = Some("feed".to_owned());
    store(settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_written_row_is_told_and_can_be_read_when_it_is() {
    let database = Database::postgres().await;
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let mut listener = Listener::new(url, "feed").await;
    let store = telling(url).await;
    store.write(&[present("my-data", "a/\"ü\"\n", 11)]).await.unwrap();
    let told = listener.next().await;
    let expected = json!({
        "bucket": "my-data", "table": "bucket_my_data", "id": 1, "path": "a/\"ü\"\n", "size": 11,
        "deleted": false, "etag": "\"etag-11\"", "is_backed_up": false,
    });
    assert_eq!(told, expected);
    let sql = "SELECT size FROM bucket_my_data WHERE id = $1";
    let row = listener.client.query_one(sql, &[&1_i32]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 11);

    let mut mirrored = present("my-data", "a/\"ü\"\n", 12);
    mirrored.mirrored = true;
    store.write(&[mirrored, absent("my-data", "never")]).await.unwrap();
    let told = listener.all("feed").await;
    let brief: Vec<_> =
        told.iter().map(|t| (&t["path"], &t["size"], &t["deleted"], &t["is_backed_up"])).collect();
    assert_eq!(brief.len(), 2);
    assert!(brief.contains(&(&json!("a/\"ü\"\n"), &json!(12), &json!(false), &json!(true))));
    assert!(brief.contains(&(&json!("never"), &json!(0), &json!(true), &json!(false))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_stored_is_not_told() {
    let database = Database::postgres().await;
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let store = telling(url).await;
    store.write(&[present("b", "first", 1)]).await.unwrap();
    database.execute("ALTER TABLE bucket_b ADD CHECK (path <> 'k77')").await;
    let mut listener = Listener::new(url, "feed").await;
    let rows: Vec<Row> = (0..100).map(|n| present("b", &format!("k{n}"), n)).collect();
    let faults = store.write(&rows).await.unwrap();
    assert_eq!(faults.len(), 1);
    // The batch was tried whole, and in halves, and each row was told once all the same.
    let mut told: Vec<String> = listener
        .all("feed")
        .await
        .iter()
        .map(|told| told["path"].as_str().unwrap().to_owned())
        .collect();
    told.sort();
    let mut stored: Vec<String> =
        rows.iter().map(|row| row.key.clone()).filter(|key| key != "k77").collect();
    stored.sort();
    assert_eq!(told, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn contested_rows_are_told_to_the_fence_with_the_feed_too() {
    let database = Database::postgres().await;
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let (first, second) = (telling(url).await, telling(url).await);
    let rows = [present("b", "a", 1), present("b", "k", 1)];
    assert_eq!(first.write_as(7, &rows).await.unwrap().contested, [0; 0]);
    assert_eq!(second.write_as(8, &rows[1..]).await.unwrap().contested, [0]);
    assert_eq!(first.write_as(7, &rows).await.unwrap().contested, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_too_long_for_a_payload_is_told_by_its_number() {
    let database = Database::postgres().await;
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let mut listener = Listener::new(url, "feed").await;
    let store = telling(url).await;
    // JSON writes each of these characters as six.
    let (longest, beyond) = ("\u{1}".repeat(1024), "\u{1}".repeat(1400));
    assert_eq!(store.write(&[present("b", &longest, 1)]).await.unwrap(), []);
    assert_eq!(listener.next().await["path"], json!(longest));
    assert_eq!(store.write(&[present("b", &beyond, 1)]).await.unwrap(), []);
    let told = listener.next().await;
    assert_eq!((&told["path"], &told["id"]), (&Value::Null, &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nothing_is_told() {
    let database = Database::postgres().await;
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let mut listener = Listener::new(url, "feed").await;
    database.store().await.write(&[present("b", "k", 1)]).await.unwrap();
    assert_eq!(listener.all("feed").await, [] as [Value; 0]);
}
