// go get github.com/aws/aws-sdk-go-v2/service/s3
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	ctx := context.Background()
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(env("S3_ENDPOINT", "http://s3-proxy.s3-mirror.svc.cluster.local")),
		UsePathStyle: true,
		Region:       "us-east-1",
		// The proxy signs with its own credentials, so the request need not be signed.
		Credentials: aws.AnonymousCredentials{},
	})

	bucket, key := aws.String(env("BUCKET", "my-bucket")), aws.String("hello/go.txt")
	_, err := client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: key, Body: strings.NewReader("Hello from Go"),
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
