//! AWS SDK for Rust, with its default settings but for endpoint, keys and addressing. See ../../job.py.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

const CONTENT_TYPE: &str = "text/x-conformance";
const METADATA: (&str, &str) = ("origin", "conformance suite");
const PART_BYTES: u64 = 5 << 20;
const CASES: [&str; 6] = ["0", "1", "70KiB", "20MiB", "stream", "keys"];

type Outcome = Result<(), Box<dyn Error>>;

struct Job {
    client: Client,
    bucket: String,
    prefix: String,
    input: PathBuf,
    output: PathBuf,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

impl Job {
    fn new() -> Self {
        let builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(variable("ENDPOINT"))
            .region(Region::new("us-east-1"))
            .force_path_style(true);
        let (access, secret) = (variable("ACCESS_KEY"), variable("SECRET_KEY"));
        let builder = if access.is_empty() {
            builder.allow_no_auth()
        } else {
            builder.credentials_provider(Credentials::new(access, secret, None, None, "job"))
        };
        Self {
            client: Client::from_conf(builder.build()),
            bucket: variable("BUCKET"),
            prefix: variable("PREFIX"),
            input: variable("IN").into(),
            output: variable("OUT").into(),
        }
    }

    async fn run(&self, case: &str) -> Outcome {
        if case == "keys" {
            return self.keys().await;
        }
        let key = format!("{}/{case}", self.prefix);
        let path = self.input.join(case);
        match case {
            "20MiB" => self.multipart(&key, &path).await?,
            // A file is a stream to the SDK; a vector is not.
            "stream" => self.put(&key, ByteStream::from_path(&path).await?).await?,
            _ => self.put(&key, tokio::fs::read(&path).await?.into()).await?,
        }
        let got = self.client.get_object().bucket(&self.bucket).key(&key).send().await?;
        tokio::fs::write(self.output.join(case), got.body.collect().await?.into_bytes()).await?;
        Ok(())
    }

    async fn put(&self, key: &str, body: ByteStream) -> Outcome {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(CONTENT_TYPE)
            .metadata(METADATA.0, METADATA.1)
            .body(body)
            .send()
            .await?;
        Ok(())
    }

    async fn multipart(&self, key: &str, path: &std::path::Path) -> Outcome {
        let created = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(CONTENT_TYPE)
            .metadata(METADATA.0, METADATA.1)
            .send()
            .await?;
        let upload = created.upload_id().ok_or("no upload id")?;
        let size = tokio::fs::metadata(path).await?.len();
        let mut parts = Vec::new();
        let mut offset = 0;
        while offset < size {
            let length = PART_BYTES.min(size - offset);
            let body = ByteStream::read_from()
                .path(path)
                .offset(offset)
                .length(Length::Exact(length))
                .build()
                .await?;
            let number = i32::try_from(parts.len() + 1)?;
            let sent = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .part_number(number)
                .body(body)
                .send()
                .await?;
            let part = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(sent.e_tag().map(str::to_owned))
                .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned));
            parts.push(part.build());
            offset += length;
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .multipart_upload(parts)
            .send()
            .await?;
        Ok(())
    }

    async fn keys(&self) -> Outcome {
        let names: Vec<String> =
            serde_json::from_slice(&tokio::fs::read(self.input.join("keys.json")).await?)?;
        let mut failed = Vec::new();
        for name in names {
            if self.put_and_get(&name).await.ok().as_deref() != Some(name.as_bytes()) {
                failed.push(name);
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(format!("keys that failed: {}", serde_json::to_string(&failed)?).into())
    }

    async fn put_and_get(&self, name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let key = format!("{}/keys/{name}", self.prefix);
        let body = name.as_bytes().to_vec().into();
        self.client.put_object().bucket(&self.bucket).key(&key).body(body).send().await?;
        let got = self.client.get_object().bucket(&self.bucket).key(&key).send().await?;
        Ok(got.body.collect().await?.to_vec())
    }
}

#[tokio::main]
async fn main() {
    let job = Job::new();
    for case in CASES {
        // The text of an SDK error is in its sources.
        let error = job.run(case).await.err().map(|error| {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        });
        println!("{}", serde_json::json!({"case": case, "error": error}));
    }
}
