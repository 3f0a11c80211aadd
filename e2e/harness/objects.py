"""A real S3 server, and the objects in it."""

import itertools

import boto3
from botocore.config import Config

from harness import tools
from harness.broker import LOOPBACK, free_port
from harness.process import Process, wait_until

ACCESS_KEY = "esker-test"
SECRET_KEY = "esker-test-secret"
REGION = "us-east-1"
READY_SECONDS_MAX = 60


class Minio:
    """One MinIO on its own folder."""

    def __init__(self, folder):
        self.folder = folder
        self.address = f"{LOOPBACK}:{free_port()}"
        self.endpoint = f"http://{self.address}"
        self.process = None
        self.buckets = itertools.count()
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}),
        )

    def start(self):
        binary = tools.folder() / "minio" / "minio"
        self.process = Process(
            [binary, "server", "--quiet", "--address", self.address, "--console-address", f"{LOOPBACK}:0", self.folder / "drive"],
            self.folder,
            "minio",
            {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_BROWSER": "off"},
        )
        wait_until(self.answers, READY_SECONDS_MAX, "MinIO to answer")
        return self

    def answers(self):
        try:
            self.s3.list_buckets()
            return True
        except Exception as error:  # any refusal means: not yet
            if not self.process.running():
                raise RuntimeError(f"MinIO ended: {self.process.stderr()}") from error
            return False

    def kill(self):
        if self.process:
            self.process.kill()

    def bucket(self):
        """A bucket of its own, as (name, URL for the broker)."""
        name = f"esker-{next(self.buckets)}"
        self.s3.create_bucket(Bucket=name)
        return name, f"s3://{name}/esker"

    def environment(self):
        """What a broker needs to reach this store."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def keys(self, bucket):
        """Every object's key and size."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def get(self, bucket, key):
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
