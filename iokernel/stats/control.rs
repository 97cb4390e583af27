//! Counters of the control thread: why runtimes were not let in, or not kept, and what
//! they left that it cannot remove.

counters! {
    /// What the control thread counts, by reason.
    ControlCounter {
        /// Registrations whose peer closed its end before they were complete.
        RefusedHungUp = "REFUSED_HUNG_UP",
        /// Registrations that stood still for too long.
        RefusedSilent = "REFUSED_SILENT",
        /// Registrations that gave way to others while too many were under way.
        RefusedGaveWay = "REFUSED_GAVE_WAY",
        /// Registrations whose bytes and fds did not come as they should.
        RefusedMessage = "REFUSED_MESSAGE",
        /// Processes that are not visible here, or had ended.
        RefusedProcess = "REFUSED_PROCESS",
        /// Users that are not allowed, or not now: their runtimes made the polling loop wait.
        RefusedUser = "REFUSED_USER",
        /// Keys without a segment, of the ingress segment, of another user's, or of one in use.
        RefusedSegment = "REFUSED_SEGMENT",
        /// Regions that are too short, longer than their segment, without memory, or out of
        /// the device's reach.
        RefusedRegion = "REFUSED_REGION",
        /// Headers that are none, or do not fit.
        RefusedHeader = "REFUSED_HEADER",
        /// Caladan runtimes.
        RefusedCaladan = "REFUSED_CALADAN",
        /// Queues of impossible sizes or in impossible places.
        RefusedQueue = "REFUSED_QUEUE",
        /// Ethernet addresses that are no station's, or another runtime's.
        RefusedAddress = "REFUSED_ADDRESS",
        /// Thread ids that are not the peer's, or cannot be pinned.
        RefusedThread = "REFUSED_THREAD",
        /// Fds that are no eventfds, or the same one twice.
        RefusedEventfd = "REFUSED_EVENTFD",
        /// Guarantees beyond the cores that are left.
        RefusedGuarantee = "REFUSED_GUARANTEE",
        /// Runtimes for which there was no memory, fd or slot left.
        RefusedResources = "REFUSED_RESOURCES",
        /// Runtimes detached because they took pages of their region away.
        FaultRegion = "FAULT_REGION",
        /// Runtimes detached because they sent more than their registration.
        FaultSocket = "FAULT_SOCKET",
        /// Segments of runtimes that left, which could not be removed.
        SegmentsLeft = "SEGMENTS_LEFT",
    }
}
