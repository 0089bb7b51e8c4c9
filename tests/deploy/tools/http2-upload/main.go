// http2-upload puts large objects with the AWS SDK for Go and reads them back, by the SDK's own HTTP
// client. It prints the protocol of each answer, and how often it was told to go on with a body:
// the SDK asks for that with every upload of more than 2 MiB, and waits a second if nobody says so.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

type watched struct {
	*awshttp.BuildableClient
	goOn *int
}

func (c watched) Do(request *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{Got100Continue: func() { *c.goOn++ }}
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), trace))
	response, err := c.BuildableClient.Do(request)
	if err == nil {
		fmt.Println(request.Method, response.Proto, response.StatusCode)
	}
	return response, err
}

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoint, bucket string) error {
	goOn := 0
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		UsePathStyle: true,
		Region:       "us-east-1",
		Credentials:  aws.AnonymousCredentials{},
		HTTPClient:   watched{awshttp.NewBuildableClient(), &goOn},
	})
	body := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	for number := range 3 {
		key := aws.String(fmt.Sprintf("go-%d", number))
		put := &s3.PutObjectInput{Bucket: &bucket, Key: key, Body: bytes.NewReader(body)}
		if _, err := client.PutObject(ctx, put); err != nil {
			return err
		}
		answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: key})
		if err != nil {
			return err
		}
		got, err := io.ReadAll(answer.Body)
		if err != nil || !bytes.Equal(got, body) {
			return fmt.Errorf("%d other bytes came back: %w", len(got), err)
		}
	}
	fmt.Println("told to go on:", goOn)
	return nil
}
