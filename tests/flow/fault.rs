//! Faults that are planted, so that it is seen that the rules find them.

/// One fault, each of which somebody could write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each says what is wrong")]
pub enum Fault {
    ConflictsAreIgnored,
    ClaimsTakeTakenPods,
    StatusOverwritesWhatOthersWrote,
    SparkNewsTouchNobody,
    CheckpointNewsTouchNobody,
    VolumeNewsTouchNobody,
    PodNewsTouchNobody,
    AgentNewsTouchNobody,
    NobodyIsLookedAtAgain,
    LostPodsAreNotEnded,
    SizesAreNotSet,
    PodsAreNotMade,
    VolumesAreNotUpdated,
    AbandonedDisksAreKept,
    ServicesAreNotMade,
    ExpiredSparksStay,
    StatusIsNotTold,
    TrashIsTakenWithoutLook,
    AttachIgnoresOtherContainers,
    AttachTakesForeignPods,
    DisksOfTheLivingAreTrashed,
    FinalizersAreDroppedBeforeTheTrash,
    SecretsStandInClear,
    RefusedWritesAreRepeatedAtOnce,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::ConflictsAreIgnored,
        Self::ClaimsTakeTakenPods,
        Self::StatusOverwritesWhatOthersWrote,
        Self::SparkNewsTouchNobody,
        Self::CheckpointNewsTouchNobody,
        Self::VolumeNewsTouchNobody,
        Self::PodNewsTouchNobody,
        Self::AgentNewsTouchNobody,
        Self::NobodyIsLookedAtAgain,
        Self::LostPodsAreNotEnded,
        Self::SizesAreNotSet,
        Self::PodsAreNotMade,
        Self::VolumesAreNotUpdated,
        Self::AbandonedDisksAreKept,
        Self::ServicesAreNotMade,
        Self::ExpiredSparksStay,
        Self::StatusIsNotTold,
        Self::TrashIsTakenWithoutLook,
        Self::AttachIgnoresOtherContainers,
        Self::AttachTakesForeignPods,
        Self::DisksOfTheLivingAreTrashed,
        Self::FinalizersAreDroppedBeforeTheTrash,
        Self::SecretsStandInClear,
        Self::RefusedWritesAreRepeatedAtOnce,
    ];
}
