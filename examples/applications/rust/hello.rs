// cargo add aws-sdk-s3 tokio --features tokio/macros,tokio/rt-multi-thread
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::primitives::ByteStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = env("S3_ENDPOINT", "http://s3-proxy.s3-mirror.svc.cluster.local");
    let bucket = env("BUCKET", "my-bucket");
    let key = "hello/rust.txt";

    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new("us-east-1"))
        // The proxy signs with its own credentials, so the request need not be signed.
        .allow_no_auth()
        .build();
    let s3 = Client::from_conf(config);

    let body = ByteStream::from_static(b"Hello from Rust");
    s3.put_object().bucket(&bucket).key(key).body(body).send().await?;
    let answer = s3.get_object().bucket(&bucket).key(key).send().await?;
    let body = answer.body.collect().await?.into_bytes();
    println!("{}", String::from_utf8_lossy(&body));
    Ok(())
}

fn env(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}
