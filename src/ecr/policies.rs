//! Calls about the two policies of a repository: get, put, delete.

use super::error::{Error, none_if};
use super::policy::Kind;
use super::registry::Registry;

const NO_LIFECYCLE_POLICY: &str = "LifecyclePolicyNotFoundException";
const NO_PERMISSION_POLICY: &str = "RepositoryPolicyNotFoundException";

impl Registry {
    /// Returns the text of a repository's policy, if it has one.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn policy(&self, kind: Kind, repository: &str) -> Result<Option<String>, Error> {
        match kind {
            Kind::Lifecycle => {
                let call = self.client.get_lifecycle_policy().registry_id(&self.account);
                let result = call.repository_name(repository).send().await;
                let operation = "ecr:GetLifecyclePolicy";
                let answer = none_if(result, NO_LIFECYCLE_POLICY, operation, repository)?;
                Ok(answer.and_then(|answer| answer.lifecycle_policy_text))
            }
            Kind::Permission => {
                let call = self.client.get_repository_policy().registry_id(&self.account);
                let result = call.repository_name(repository).send().await;
                let operation = "ecr:GetRepositoryPolicy";
                let answer = none_if(result, NO_PERMISSION_POLICY, operation, repository)?;
                Ok(answer.and_then(|answer| answer.policy_text))
            }
        }
    }

    /// Replaces a policy. Returns the text that ECR stored, if it says.
    ///
    /// # Errors
    /// As AWS answers; class `PolicyRejected` if AWS does not accept the text.
    pub async fn put_policy(
        &self,
        kind: Kind,
        repository: &str,
        text: &str,
    ) -> Result<Option<String>, Error> {
        match kind {
            Kind::Lifecycle => {
                let call = self.client.put_lifecycle_policy().registry_id(&self.account);
                let call = call.repository_name(repository).lifecycle_policy_text(text);
                let answer = call.send().await.map_err(|error| {
                    Error::from_sdk("ecr:PutLifecyclePolicy", repository, &error)
                })?;
                Ok(answer.lifecycle_policy_text)
            }
            Kind::Permission => {
                let call = self.client.set_repository_policy().registry_id(&self.account);
                let call = call.repository_name(repository).policy_text(text);
                let answer = call.send().await.map_err(|error| {
                    Error::from_sdk("ecr:SetRepositoryPolicy", repository, &error)
                })?;
                Ok(answer.policy_text)
            }
        }
    }

    /// Removes a policy; succeeds if there is none.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn delete_policy(&self, kind: Kind, repository: &str) -> Result<(), Error> {
        match kind {
            Kind::Lifecycle => {
                let call = self.client.delete_lifecycle_policy().registry_id(&self.account);
                let result = call.repository_name(repository).send().await;
                let operation = "ecr:DeleteLifecyclePolicy";
                none_if(result, NO_LIFECYCLE_POLICY, operation, repository).map(drop)
            }
            Kind::Permission => {
                let call = self.client.delete_repository_policy().registry_id(&self.account);
                let result = call.repository_name(repository).send().await;
                let operation = "ecr:DeleteRepositoryPolicy";
                none_if(result, NO_PERMISSION_POLICY, operation, repository).map(drop)
            }
        }
    }
}
