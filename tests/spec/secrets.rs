//! Neither a secret nor the contents of an event are logged or answered, however much Lambda is told to log, and
//! whatever fails. This runs the real binary.

use std::time::Duration;

use stand_in::aws::Fault;
use stand_in::lambda::Sandbox;
use stand_in::world::World;

use crate::reading::lines;

/// A word that is in every secret here, and in the names of the fields around it.
const MARK: &str = "topsecret";
/// A timeout that is too short for a deployment to try again, so that each failure is reported at once.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The error that AWS sends for a signature that does not match. It contains the request as it was signed.
const SIGNATURE: Fault = Fault::Error(
    403,
    "SignatureDoesNotMatch",
    "The request signature we calculated does not match the signature you provided.\n\n\
     The Canonical String for this request should have been\n'POST\n/\n\n\
     x-amz-security-token:topsecrettoken\n\nhost;x-amz-date;x-amz-security-token'",
);
/// The bucket in which CloudFormation waits for answers.
const BUCKET: &str =
    "https://cloudformation-custom-resource-response-euwest1.s3.eu-west-1.amazonaws.com";
const SCHEDULE: &str = r#"{"source":"topsecretsource","detail":{"topsecretname":"topsecret"}}"#;
const NOTIFICATION: &str =
    r#"{"Records":[{"EventSource":"aws:sns","Sns":{"Message":"topsecretmessage"}}]}"#;
/// Events that mean nothing to the function.
const OTHERS: [&str; 3] = [
    r#"{"dryRun":"topsecretflag","topsecretname":[{"password":"topsecretvalue"}]}"#,
    r#"{"RequestType":"topsecrettype","ResponseURL":["topsecreturl"]}"#,
    r#"{"topsecretname":"no JSON""#,
];

async fn world(level: &str) -> World {
    let mut world = World::settled("10.0.1.7").await;
    world.set("AWS_LAMBDA_LOG_LEVEL", level);
    world.set("AWS_ACCESS_KEY_ID", "AKIATOPSECRET");
    world.set("AWS_SECRET_ACCESS_KEY", "topsecretkey");
    world.set("AWS_SESSION_TOKEN", "topsecrettoken");
    world.set("EVENT_POLL_SECONDS", "0");
    world
}

/// Returns the event of a deployment, whose answer goes to a signed URL.
fn deployment(origin: &str) -> String {
    format!(
        r#"{{"RequestType":"Update","StackId":"s","RequestId":"r","LogicalResourceId":"Verification",
        "ResponseURL":"{origin}/topsecretpath?X-Amz-Signature=topsecretsignature",
        "ResourceProperties":{{"topsecretname":"topsecretproperty"}}}}"#
    )
}

/// Returns what goes wrong, and the error with which a deployment then ends.
fn failures() -> [(&'static str, Fault, &'static str); 8] {
    let garbage = Fault::Garbage(502, "<html>Bad Gateway</html>");
    [
        ("DescribeTargetHealth", SIGNATURE, "DescribeFailed"),
        ("RegisterTargets", SIGNATURE, "RegisterFailed"),
        ("RegisterTargets", garbage, "RegisterFailed"),
        ("RegisterTargets", Fault::Reset, "RegisterFailed"),
        ("PutMetricData", SIGNATURE, "PublishFailed"),
        ("PutObject", SIGNATURE, "AnswerFailed"),
        ("PutObject", Fault::Reset, "AnswerFailed"),
        ("PutObject", Fault::Hang, "AnswerFailed"),
    ]
}

async fn answer(sandbox: &mut Sandbox, event: &str) -> String {
    format!("{:?}", sandbox.invoke(event, TIMEOUT).await.outcome)
}

/// Returns the answers to each event while all is well, and to a few events with each failure.
async fn answers(world: &World, sandbox: &mut Sandbox) -> Vec<String> {
    let mut answers = Vec::new();
    for event in [SCHEDULE, NOTIFICATION].into_iter().chain(OTHERS) {
        answers.push(answer(sandbox, event).await);
    }
    for origin in ["https://topsecrethost.example.com", "topsecret no URL"] {
        let refused = answer(sandbox, &deployment(origin)).await;
        assert!(refused.contains("AnswerFailed"), "{refused}");
        answers.push(refused);
    }
    answers.push(answer(sandbox, &deployment(BUCKET)).await);
    world.point("10.0.2.9");
    for (action, fault, error_type) in failures() {
        world.aws.inject_always(action, fault.clone());
        answers.push(answer(sandbox, SCHEDULE).await);
        let failed = answer(sandbox, &deployment(BUCKET)).await;
        assert!(failed.contains(error_type), "{action} {fault:?}: {failed}");
        answers.push(failed);
        world.aws.heal();
    }
    answers
}

#[tokio::test]
async fn no_credential_and_nothing_of_an_event_is_logged_or_answered() {
    let told_at = async |level: &str| {
        let world = world(level).await;
        let mut sandbox = world.sandbox().await;
        let mut told = answers(&world, &mut sandbox).await;
        assert!(!lines(&sandbox, "reconcile failed").is_empty(), "{level}");
        told.extend(sandbox.log());
        let put = world.aws.take_answers();
        assert!(!put.is_empty(), "{level}");
        for answer in put {
            assert!(answer.url.contains(MARK), "the URL is used: {answer:?}");
            told.push(String::from_utf8(answer.body.into()).unwrap());
        }
        told.retain(|text| text.to_lowercase().contains(MARK));
        assert_eq!(told, [""; 0], "{level}");
    };
    tokio::join!(told_at("INFO"), told_at("DEBUG"), told_at("TRACE"));
}
