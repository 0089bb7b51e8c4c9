// Maven: software.amazon.awssdk:s3
import java.net.URI;
import software.amazon.awssdk.auth.credentials.AnonymousCredentialsProvider;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;

public class Hello {
    public static void main(String[] arguments) {
        String endpoint = env("S3_ENDPOINT", "http://s3-proxy.s3-mirror.svc.cluster.local");
        String bucket = env("BUCKET", "my-bucket");
        String key = "hello/java.txt";

        try (S3Client s3 = S3Client.builder()
                .endpointOverride(URI.create(endpoint))
                .forcePathStyle(true)
                .region(Region.US_EAST_1)
                // The proxy signs with its own credentials, so the request need not be signed.
                .credentialsProvider(AnonymousCredentialsProvider.create())
                .build()) {
            s3.putObject(put -> put.bucket(bucket).key(key), RequestBody.fromString("Hello from Java"));
            System.out.println(s3.getObjectAsBytes(get -> get.bucket(bucket).key(key)).asUtf8String());
        }
    }

    private static String env(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
