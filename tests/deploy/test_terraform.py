"""The files of Terraform make what they say in an imitated AWS, keep it as it is, and remove it.

moto answers in the place of AWS, but has neither the members of a replication group nor the tags of
what scales: both are left out there, and only judged.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest

from handlers.routes import ROUTES
from taskapp.config.settings import load_settings
from tests.deploy.tools import BIN, run_tool
from tests.support.server_process import CHECKOUT, Client, reserved_port, wait_until

TERRAFORM = CHECKOUT / "deploy" / "terraform"
FILES = TERRAFORM / "aws"
NOT_RUN = ("cloud-run", "digitalocean")  # clouds whose providers are not here
SERVICES = (
    *("acm", "applicationautoscaling", "cloudfront", "cloudwatch", "ec2", "ecs", "elasticache"),
    *("elbv2", "iam", "kms", "logs", "rds", "secretsmanager", "sns", "sts"),
)
VARIABLES = {
    "environment": "staging",
    "domain": "tasks.example.com",
    "image": f"registry.example.com/taskapp@sha256:{64 * '0'}",
    "alarm_email": "operator@example.com",
}
# A reference to what is left out needs an end.
NOWHERE = dict.fromkeys(("service_namespace", "resource_id", "scalable_dimension"), "none")
IMPORT = """
import pathlib, sys, boto3
acm = boto3.client("acm", region_name="eu-central-1", endpoint_url=sys.argv[1])
read = lambda name: pathlib.Path(name).read_bytes()
made = acm.import_certificate(Certificate=read("certificate.pem"), PrivateKey=read("key.pem"))
print(made["CertificateArn"])
"""
# What the imitation does not keep, and so would be set again.
FORGOTTEN = {
    *(f"aws_cloudfront_distribution.{name}_cache_behavior" for name in ("default", "ordered")),
    "aws_cloudfront_distribution.viewer_certificate",
    *("aws_db_instance.performance_insights_enabled", "aws_db_parameter_group.parameter"),
    "aws_db_instance.performance_insights_kms_key_id",
    "aws_ecs_service.availability_zone_rebalancing",
    "aws_ecs_service.health_check_grace_period_seconds",
    "aws_vpc_security_group_egress_rule.description",
    "aws_vpc_security_group_egress_rule.referenced_security_group_id",
    "aws_vpc_security_group_ingress_rule.description",
    "aws_vpc_security_group_ingress_rule.referenced_security_group_id",
}
SECRETS = {
    *("TASKAPP_DATABASE_URL", "TASKAPP_MIGRATION_DATABASE_URL"),
    *("TASKAPP_SECRET_KEY", "TASKAPP_LIMIT_STORAGE"),
}
OF_STAGING = "taskapp-staging"
NOT_FOLLOWED = {
    "CKV_AWS_150": "production has it; staging can be removed",
    "CKV_AWS_293": "production has it; staging can be removed",
    "CKV_AWS_91": "taskapp logs every request itself, with the address of the client",
    "CKV_AWS_86": "taskapp logs every request itself, with the address of the client",
    "CKV_AWS_68": "taskapp has limits of its own; a WAF has a price",
    "CKV2_AWS_28": "taskapp has limits of its own; a WAF has a price",
    "CKV2_AWS_47": "there is no Java",
    "CKV_AWS_374": "people are everywhere",
    "CKV_AWS_310": "the load balancer is in two zones; another region is not promised",
    "CKV_AWS_305": "taskapp answers at /",
    "CKV2_AWS_32": "taskapp sends the headers of security itself",
    "CKV_AWS_31": "only taskapp reaches Redis, which holds counts of the last hour",
    "CKV_AWS_394": "two zones are taken, by their names",
    "CKV_AWS_338": "the design says 30 days",
    "CKV2_AWS_11": "a log of all packets has a price; the security groups let no other through",
    "CKV2_AWS_57": "a new key or password is docs/settings.md's, not a function's",
}
NOT_FOLLOWED_BY_GOOGLE = {
    "CKV_GCP_6": "connections are encrypted; taskapp has a password, not a certificate of its own",
    "CKV_GCP_26": "a log of all packets has a price; no machine of one's own is in the network",
    "CKV2_GCP_18": "no machine of one's own is in the network",
    "CKV_GCP_79": "the same version as on AWS",
    "CKV_GCP_97": "only taskapp reaches Redis, which holds counts of the last hour",
    "CKV_GCP_108": "a name of a host says nothing there",
    "CKV_GCP_109": "the default, which is warnings, says more",
    "CKV_GCP_110": "what a statement holds is not for a log",
    "CKV_GCP_111": "what a statement holds is not for a log",
    "CKV2_GCP_13": "/metrics has the durations",
}
# Prints what is in a file of Terraform as JSON.
PARSE = "import hcl2, json, sys; print(json.dumps(hcl2.load(sys.stdin)))"


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, where the provider of AWS is found and initialized."""
    if not shutil.which("terraform"):
        pytest.fail("There is no terraform: no registry of packages has it; install it by hand.")
    found = {
        *Path("/").glob("*/*/registry.terraform.io"),
        *Path("/usr/*/*/").glob("*/registry.terraform.io"),
    }
    mirrors = [path.parent for path in found if [*path.glob("hashicorp/aws/*/*/*")]]
    if not mirrors:
        pytest.fail("There is no provider of AWS for terraform: no registry of packages has it.")
    folder = tmp_path_factory.mktemp("terraform")
    for path in FILES.glob("*.tf"):
        shutil.copy(path, folder)
    (folder / "mirror").write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirrors[0]}"\n  }}\n}}\n'
    )
    run(folder, "init")
    return folder


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = {
        "TF_CLI_CONFIG_FILE": str(folder / "mirror"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    done = subprocess.run(
        ["terraform", *arguments, "-no-color"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def test_they_are_formatted_and_valid(terraform: Path) -> None:
    run(terraform, "fmt", "-check")
    run(terraform, "validate")


@pytest.mark.parametrize(
    ("cloud", "not_followed", "passed"),
    [("aws", NOT_FOLLOWED, 100), ("cloud-run", NOT_FOLLOWED_BY_GOOGLE, 10)],
)
def test_checkov_finds_nothing_unsafe(
    cloud: str, not_followed: dict[str, str], passed: int
) -> None:
    done = run_tool(
        *("checkov", "--directory", TERRAFORM / cloud, "--framework", "terraform"),
        *("--skip-download", "--quiet", "--compact", "-o", "json"),
        *("--skip-check", ",".join(not_followed)),
    )
    summary = json.loads(done.stdout)["summary"]
    assert summary["passed"] > passed
    assert summary["failed"] == 0, done.stdout


@pytest.mark.parametrize("cloud", NOT_RUN)
def test_the_files_of_a_cloud_that_is_not_here_are_formatted_and_name_settings_and_routes(
    cloud: str, tmp_path: Path
) -> None:
    formatted = ["terraform", "fmt", "-check", "-diff", str(TERRAFORM / cloud)]
    assert subprocess.check_output(formatted, text=True) == ""
    text = (TERRAFORM / cloud / "main.tf").read_text(encoding="utf-8")
    parsed = json.loads(
        subprocess.check_output([BIN / "python", "-c", PARSE], input=text, text=True)
    )
    [named] = parsed["locals"]
    [settings] = named["settings"]
    settings |= {
        "TASKAPP_DATA_DIR": str(tmp_path),
        "TASKAPP_PUBLIC_URL": "https://tasks.example.com",
        "TASKAPP_TRUSTED_PROXIES": "169.254.0.0/16",
    }
    secrets = set(re.findall(r"TASKAPP_\w+", json.dumps(named))) - settings.keys()
    assert secrets == SECRETS
    addresses = {name: "postgresql://db.example.com/taskapp" for name in secrets if "URL" in name}
    rest = {
        "TASKAPP_SECRET_KEY": token_urlsafe(32),
        "TASKAPP_LIMIT_STORAGE": "redis://limits:6379/0",
    }
    loaded = load_settings(settings | addresses | rest)
    assert (loaded.uses_embedded_database, loaded.backup_every) == (False, 0)
    probes = set(re.findall(r'"(/api/[^"]+)"', text))
    assert probes
    assert probes <= {path for path, _ in ROUTES}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of an imitation of AWS."""
    with reserved_port() as port:
        environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
        command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        moto = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            with Client(str(port)) as client:
                wait_until(lambda: client.status("/moto-api/") == 200)
            yield f"http://127.0.0.1:{port}"
        finally:
            moto.terminate()
            moto.wait()


def imitate(folder: Path, address: str) -> None:
    """Have the provider ask the imitation, with a certificate of its own."""
    provider = {
        "skip_credentials_validation": True,
        "skip_metadata_api_check": True,
        "skip_requesting_account_id": True,
        "max_retries": 2,
        "endpoints": [dict.fromkeys(SERVICES, address)],
    }
    override = {
        "provider": {"aws": [provider, provider | {"alias": "global", "region": "us-east-1"}]},
        "resource": {
            "aws_elasticache_replication_group": {
                "limits": {"count": 0, "subnet_group_name": "none"}
            },
            "aws_elasticache_subnet_group": {"limits": {"count": 0}},
            "aws_appautoscaling_target": {"taskapp": {"count": 0}},
            "aws_appautoscaling_policy": {"step": {"for_each": {}, **NOWHERE}},
            "aws_cloudwatch_metric_alarm": {"scaling": {"for_each": {}}},
        },
        "output": {"limits": {"value": ""}},
    }
    (folder / "override.tf.json").write_text(json.dumps(override))
    subject = ["-subj", "/CN=tasks.example.com", "-keyout", "key.pem", "-out", "certificate.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    arn = subprocess.check_output(
        [BIN / "python", "-c", IMPORT, address],
        cwd=folder,
        text=True,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
    ).strip()
    values = VARIABLES | {"certificate_arn": arn, "global_certificate_arn": arn}
    (folder / "terraform.tfvars.json").write_text(json.dumps(values))


def changed_by_a_second_plan(folder: Path) -> set[str]:
    run(folder, "plan", "-out", "second")
    changes = json.loads(run(folder, "show", "-json", "second"))["resource_changes"]
    return {
        f"{each['type']}.{name}"
        for each in changes
        for name, value in (each["change"]["after"] or {}).items()
        if each["change"]["actions"] != ["no-op"]
        and value != (each["change"]["before"] or {}).get(name)
    }


def test_what_is_made_is_whole_stays_as_it_is_and_can_be_removed(
    terraform: Path, address: str, tmp_path: Path
) -> None:
    imitate(terraform, address)
    run(terraform, "apply", "-auto-approve")
    made: dict[str, Any] = json.loads(run(terraform, "output", "-json"))
    assert changed_by_a_second_plan(terraform) <= FORGOTTEN
    state = json.loads(run(terraform, "show", "-json"))["values"]["root_module"]["resources"]
    found = {f"{each['type']}.{each['name']}": each["values"] for each in state}
    database = found["aws_db_instance.main"]
    assert (database["multi_az"], database["backup_retention_period"]) == (True, 14)
    assert found["aws_lb_target_group.taskapp"]["health_check"][0]["path"] == "/api/health/ready"
    assert made["migration"]["value"]["task_definition"] == f"{OF_STAGING}-migration"
    for name in ("taskapp", "migration"):
        [container] = [
            json.loads(each["values"]["container_definitions"])[0]
            for each in state
            if (each["type"], each.get("index")) == ("aws_ecs_task_definition", name)
        ]
        settings = {each["name"]: each["value"] for each in container["environment"]}
        secrets = {each["name"] for each in container["secrets"]}
        assert ("TASKAPP_MIGRATION_DATABASE_URL" in secrets) is (name == "migration")
        known = dict.fromkeys(secrets & {"TASKAPP_DATABASE_URL"}, "postgresql://db.example.com/t")
        assert load_settings(settings | known | {"TASKAPP_DATA_DIR": str(tmp_path)}).public_url
    run(terraform, "destroy", "-auto-approve")
    assert json.loads(run(terraform, "show", "-json")).get("values") is None
