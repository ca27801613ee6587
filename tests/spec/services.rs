//! Tests where and how the services of AWS are called.

use std::time::Duration;

use stand_in::world::World;

use crate::reading::error;

#[tokio::test]
async fn a_service_may_have_an_address_of_its_own() {
    let mut world = World::settled("10.0.1.7").await;
    let elsewhere = stand_in::aws::Aws::default();
    let server = elsewhere.serve().await;
    world.set(
        "AWS_ENDPOINT_URL_CLOUDWATCH",
        format!("http://{}", server.address),
    );
    world.run().await.outcome.unwrap();
    let calls = elsewhere.take_calls();
    assert!(
        calls
            .iter()
            .map(|call| call.action.as_str())
            .eq(["PutMetricData"])
    );
    assert_eq!(
        world.actions(),
        ["DescribeTargetGroups", "DescribeTargetHealth"]
    );
}

#[tokio::test]
async fn the_services_are_called_over_tls_and_their_certificates_verified() {
    let mut world = World::settled("10.0.1.7").await;
    let (server, certificate) = world.aws.serve_tls().await;
    world.set(
        "AWS_ENDPOINT_URL",
        format!("https://localhost:{}", server.address.port()),
    );
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), certificate).unwrap();
    let (error_type, message) = error(&world.run().await);
    assert_eq!(error_type, "DescribeFailed");
    assert!(message.contains("invalid peer certificate"), "{message}");

    world.set("SSL_CERT_FILE", trusted.path().to_str().unwrap());
    world.run().await.outcome.unwrap();
    assert_eq!(
        world.actions(),
        [
            "DescribeTargetGroups",
            "DescribeTargetHealth",
            "PutMetricData"
        ]
    );
}

#[tokio::test]
async fn without_credentials_the_call_fails_at_once_and_says_why() {
    let mut world = World::settled("10.0.1.7").await;
    world.variables.remove("AWS_ACCESS_KEY_ID");
    let answer = world.run().await;
    let (error_type, message) = error(&answer);
    assert_eq!(error_type, "DescribeFailed");
    assert!(message.contains("credential"), "{message}");
    assert!(
        answer.took < Duration::from_secs(2),
        "took {:?}",
        answer.took
    );
}
