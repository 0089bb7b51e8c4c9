// AWS SDK for Go v2 and minio-go; the first argument says which. See ../job.py.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	miniocredentials "github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	contentType = "text/x-conformance"
	partBytes   = 5 << 20
	keysCase    = "keys"
)

var (
	cases    = []string{"0", "1", "70KiB", "20MiB", "stream", keysCase}
	metadata = map[string]string{"origin": "conformance suite"}
	endpoint = os.Getenv("ENDPOINT")
	bucket   = os.Getenv("BUCKET")
	access   = os.Getenv("ACCESS_KEY")
	secret   = os.Getenv("SECRET_KEY")
)

func key(name string) string { return os.Getenv("PREFIX") + "/" + name }

func source(name string) string { return filepath.Join(os.Getenv("IN"), name) }

// unseekable hides everything but Read, so that nobody can tell the length.
type unseekable struct{ io.Reader }

func save(body io.ReadCloser, name string) error {
	defer body.Close()
	file, err := os.Create(filepath.Join(os.Getenv("OUT"), name))
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(file, body)
	return err
}

// everyKey puts and gets one small object per key and names those that did not come back.
func everyKey(putAndGet func(key string, data []byte) ([]byte, error)) error {
	text, err := os.ReadFile(source("keys.json"))
	if err != nil {
		return err
	}
	var keys, failed []string
	if err = json.Unmarshal(text, &keys); err != nil {
		return err
	}
	for _, name := range keys {
		got, err := putAndGet(key(keysCase)+"/"+name, []byte(name))
		if err != nil || string(got) != name {
			failed = append(failed, name)
		}
	}
	if len(failed) > 0 {
		names, _ := json.Marshal(failed)
		return fmt.Errorf("keys that failed: %s", names)
	}
	return nil
}

func withAWS(ctx context.Context) func(string) error {
	var provider aws.CredentialsProvider = aws.AnonymousCredentials{}
	if access != "" {
		provider = credentials.NewStaticCredentialsProvider(access, secret, "")
	}
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  provider,
	})
	uploader := manager.NewUploader(client)
	return func(name string) error {
		if name == keysCase {
			return everyKey(func(key string, data []byte) ([]byte, error) {
				where := aws.String(key)
				put := &s3.PutObjectInput{Bucket: aws.String(bucket), Key: where, Body: bytes.NewReader(data)}
				if _, err := client.PutObject(ctx, put); err != nil {
					return nil, err
				}
				got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: put.Bucket, Key: where})
				if err != nil {
					return nil, err
				}
				defer got.Body.Close()
				return io.ReadAll(got.Body)
			})
		}
		input := &s3.PutObjectInput{
			Bucket:      aws.String(bucket),
			Key:         aws.String(key(name)),
			ContentType: aws.String(contentType),
			Metadata:    metadata,
		}
		file, err := os.Open(source(name))
		if err != nil {
			return err
		}
		defer file.Close()
		switch name {
		case "20MiB":
			input.Body = file
			_, err = uploader.Upload(ctx, input)
		case "stream":
			input.Body = unseekable{file}
			_, err = uploader.Upload(ctx, input)
		default:
			var data []byte
			if data, err = io.ReadAll(file); err != nil {
				return err
			}
			input.Body = bytes.NewReader(data)
			_, err = client.PutObject(ctx, input)
		}
		if err != nil {
			return err
		}
		got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: input.Bucket, Key: input.Key})
		if err != nil {
			return err
		}
		return save(got.Body, name)
	}
}

func withMinio(ctx context.Context) func(string) error {
	client, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds:  miniocredentials.NewStaticV4(access, secret, ""),
		Region: "us-east-1",
	})
	if err != nil {
		panic(err)
	}
	return func(name string) error {
		if name == keysCase {
			return everyKey(func(key string, data []byte) ([]byte, error) {
				_, err := client.PutObject(ctx, bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
				if err != nil {
					return nil, err
				}
				got, err := client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
				if err != nil {
					return nil, err
				}
				defer got.Close()
				return io.ReadAll(got)
			})
		}
		file, err := os.Open(source(name))
		if err != nil {
			return err
		}
		defer file.Close()
		stat, err := file.Stat()
		if err != nil {
			return err
		}
		var body io.Reader = file
		size := stat.Size()
		options := minio.PutObjectOptions{ContentType: contentType, UserMetadata: metadata}
		if name == "20MiB" {
			options.PartSize = partBytes
		}
		if name == "stream" {
			body, size, options.PartSize = unseekable{file}, -1, partBytes
		}
		if _, err = client.PutObject(ctx, bucket, key(name), body, size, options); err != nil {
			return err
		}
		got, err := client.GetObject(ctx, bucket, key(name), minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		return save(got, name)
	}
}

func main() {
	ctx := context.Background()
	var perform func(string) error
	switch os.Args[1] {
	case "aws":
		perform = withAWS(ctx)
	case "minio":
		perform = withMinio(ctx)
	}
	for _, name := range cases {
		answer := map[string]any{"case": name, "error": nil}
		if err := perform(name); err != nil {
			answer["error"] = fmt.Sprint(err)
		}
		line, _ := json.Marshal(answer)
		fmt.Println(string(line))
	}
}
