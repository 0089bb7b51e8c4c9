// AWS SDK for Java v2, the synchronous and the asynchronous client; the first argument says which.
// See ../../../../job.py.

import java.io.InputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import software.amazon.awssdk.auth.credentials.AnonymousCredentialsProvider;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.async.AsyncResponseTransformer;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3BaseClientBuilder;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.CompletedPart;
import software.amazon.awssdk.services.s3.model.GetObjectRequest;
import software.amazon.awssdk.services.s3.model.PutObjectRequest;

public final class Clients {
    private static final String KEYS = "keys";
    private static final List<String> CASES = List.of("0", "1", "70KiB", "20MiB", "stream", KEYS);
    private static final String CONTENT_TYPE = "text/x-conformance";
    private static final Map<String, String> METADATA = Map.of("origin", "conformance suite");
    private static final int PART_BYTES = 5 << 20;
    private static final String BUCKET = System.getenv("BUCKET");

    /** What both clients can do. */
    private interface Client {
        void put(PutObjectRequest request, byte[] data) throws Exception;

        void multipart(PutObjectRequest request, Path file) throws Exception;

        void stream(PutObjectRequest request, Path file) throws Exception;

        byte[] get(GetObjectRequest request) throws Exception;

        void save(GetObjectRequest request, Path target) throws Exception;
    }

    private static <B extends S3BaseClientBuilder<B, C>, C> B configured(B builder) {
        String access = System.getenv("ACCESS_KEY");
        AwsCredentialsProvider credentials = access == null
            ? AnonymousCredentialsProvider.create()
            : StaticCredentialsProvider.create(AwsBasicCredentials.create(access, System.getenv("SECRET_KEY")));
        return builder
            .endpointOverride(URI.create(System.getenv("ENDPOINT")))
            .region(Region.US_EAST_1)
            .forcePathStyle(true)
            .credentialsProvider(credentials);
    }

    private static final class Synchronous implements Client {
        private final S3Client client = configured(S3Client.builder()).build();

        @Override
        public void put(PutObjectRequest request, byte[] data) {
            client.putObject(request, RequestBody.fromBytes(data));
        }

        @Override
        public void multipart(PutObjectRequest request, Path file) throws Exception {
            String upload = client.createMultipartUpload(create -> create
                .bucket(BUCKET).key(request.key()).contentType(CONTENT_TYPE).metadata(METADATA)).uploadId();
            List<CompletedPart> parts = new ArrayList<>();
            byte[] data = Files.readAllBytes(file);
            for (int offset = 0; offset < data.length; offset += PART_BYTES) {
                int number = parts.size() + 1;
                byte[] piece = Arrays.copyOfRange(data, offset, Math.min(data.length, offset + PART_BYTES));
                var sent = client.uploadPart(part -> part
                    .bucket(BUCKET).key(request.key()).uploadId(upload).partNumber(number), RequestBody.fromBytes(piece));
                parts.add(CompletedPart.builder()
                    .partNumber(number).eTag(sent.eTag()).checksumCRC32(sent.checksumCRC32()).build());
            }
            client.completeMultipartUpload(complete -> complete
                .bucket(BUCKET).key(request.key()).uploadId(upload).multipartUpload(all -> all.parts(parts)));
        }

        @Override
        public void stream(PutObjectRequest request, Path file) throws Exception {
            try (InputStream stream = Files.newInputStream(file)) {
                client.putObject(request, RequestBody.fromInputStream(stream, Files.size(file)));
            }
        }

        @Override
        public byte[] get(GetObjectRequest request) {
            return client.getObjectAsBytes(request).asByteArray();
        }

        @Override
        public void save(GetObjectRequest request, Path target) {
            client.getObject(request, target);
        }
    }

    private static final class Asynchronous implements Client {
        private final S3AsyncClient client = configured(S3AsyncClient.builder()).build();
        // Cuts what is large, or of unknown length, into parts by its own rules.
        private final S3AsyncClient large = configured(S3AsyncClient.builder()).multipartEnabled(true).build();
        private final ExecutorService reader = Executors.newSingleThreadExecutor(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });

        @Override
        public void put(PutObjectRequest request, byte[] data) {
            client.putObject(request, AsyncRequestBody.fromBytes(data)).join();
        }

        @Override
        public void multipart(PutObjectRequest request, Path file) {
            large.putObject(request, AsyncRequestBody.fromFile(file)).join();
        }

        @Override
        public void stream(PutObjectRequest request, Path file) throws Exception {
            try (InputStream stream = Files.newInputStream(file)) {
                large.putObject(request, AsyncRequestBody.fromInputStream(stream, null, reader)).join();
            }
        }

        @Override
        public byte[] get(GetObjectRequest request) {
            return client.getObject(request, AsyncResponseTransformer.toBytes()).join().asByteArray();
        }

        @Override
        public void save(GetObjectRequest request, Path target) {
            client.getObject(request, AsyncResponseTransformer.toFile(target)).join();
        }
    }

    private static String key(String name) {
        return System.getenv("PREFIX") + "/" + name;
    }

    private static void run(Client client, String name) throws Exception {
        Path source = Path.of(System.getenv("IN"), name);
        if (name.equals(KEYS)) {
            keys(client);
            return;
        }
        PutObjectRequest put = PutObjectRequest.builder()
            .bucket(BUCKET).key(key(name)).contentType(CONTENT_TYPE).metadata(METADATA).build();
        switch (name) {
            case "20MiB" -> client.multipart(put, source);
            case "stream" -> client.stream(put, source);
            default -> client.put(put, Files.readAllBytes(source));
        }
        Path target = Path.of(System.getenv("OUT"), name);
        client.save(GetObjectRequest.builder().bucket(BUCKET).key(key(name)).build(), target);
    }

    private static void keys(Client client) throws Exception {
        String text = Files.readString(Path.of(System.getenv("IN"), "keys.json"));
        List<String> failed = new ArrayList<>();
        for (JsonNode node : JsonNode.parser().parse(text).asArray()) {
            byte[] data = node.asString().getBytes(StandardCharsets.UTF_8);
            String key = key(KEYS) + "/" + node.asString();
            try {
                client.put(PutObjectRequest.builder().bucket(BUCKET).key(key).build(), data);
                byte[] got = client.get(GetObjectRequest.builder().bucket(BUCKET).key(key).build());
                if (!Arrays.equals(got, data)) {
                    failed.add(node.asString());
                }
            } catch (Exception error) {
                failed.add(node.asString());
            }
        }
        if (!failed.isEmpty()) {
            List<String> quoted = failed.stream().map(Clients::quoted).toList();
            throw new IllegalStateException("keys that failed: [" + String.join(", ", quoted) + "]");
        }
    }

    /** A string of JSON. */
    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char each : text.toCharArray()) {
            if (each < 0x20 || each > 0x7e || each == '"' || each == '\\') {
                out.append(String.format("\\u%04x", (int) each));
            } else {
                out.append(each);
            }
        }
        return out.append('"').toString();
    }

    public static void main(String[] arguments) {
        Client client = arguments[0].equals("async") ? new Asynchronous() : new Synchronous();
        for (String name : CASES) {
            String error = "null";
            try {
                run(client, name);
            } catch (Exception fault) {
                Throwable cause = fault.getCause() == null ? fault : fault.getCause();
                error = quoted(cause.getClass().getSimpleName() + ": " + cause.getMessage());
            }
            System.out.println("{\"case\": \"" + name + "\", \"error\": " + error + "}");
            System.out.flush();
        }
        System.exit(0);
    }
}
