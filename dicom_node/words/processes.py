"""The text process of the encoder that answers: when another encoder does, another process."""

from pathlib import Path

import structlog

from dicom_node.config import Config
from dicom_node.data_folder import DataFolder
from dicom_node.errors import WorkerUnavailable
from dicom_node.words.kept import encoder_of, keep_space, spaces_for
from dicom_node.words.process import TextProcess
from dicom_node.words.space import folder_of

log = structlog.get_logger()


class TextProcesses:
    """Starts a text process for an encoder, and ends it; without one nothing but words is lost."""

    def __init__(self, folder: DataFolder, config: Config) -> None:
        self._folder = folder
        self._text = config.text
        self._memory_mb = config.encoder.memory_mb
        self._is_over = False
        self.running: TextProcess | None = None
        self._former: TextProcess | None = None

    def of(self, model_id: str) -> TextProcess | None:
        """Return the process of an encoder, None where there is none that can be used.

        Another one that runs stays until `end_former`: answers are still made with it.
        """
        if self.running is None or self.running.image_model_id != model_id:
            self._former, self.running = self.running, self._started(model_id)
        return self.running

    def end_former(self) -> None:
        """End the process of the encoder before; who asks it just now is told to ask again."""
        former, self._former = self._former, None
        if former is not None:
            former.end()

    def interrupt(self) -> None:
        """End what a process does, from another thread, and start none any more."""
        self._is_over = True
        for process in filter(None, (self.running, self._former)):
            process.interrupt()

    def stop(self) -> None:
        """End the processes."""
        for process in filter(None, (self.running, self._former)):
            process.stop()

    def _started(self, model_id: str) -> TextProcess | None:
        self._tell_of_another(model_id)
        for source in spaces_for(self._folder, self._text, model_id):
            process = None if self._is_over else self._start(source)
            if process is None:
                continue
            if process.image_model_id == model_id and not self._is_over:
                self._keep(process, source)
                return process
            process.stop()
        return None

    def _start(self, source: Path) -> TextProcess | None:
        try:
            return TextProcess(source, memory_mb=self._memory_mb)
        except WorkerUnavailable as error:
            log.error(
                "text_space_unusable",
                folder=str(source),
                reason=error.reason,
                advice="words are not answered with it: set `text.folder` right, or "
                "`text.enabled` to false, and restart",
            )
            return None

    def _keep(self, process: TextProcess, source: Path) -> None:
        """Let the process start again from a copy, so that the source may go."""
        try:
            kept = keep_space(self._folder, process.image_model_id, process.space_id, source)
        except OSError as error:
            log.error("text_space_not_kept", folder=str(source), reason=error.strerror)
        else:
            process.restart_from(kept)

    def _tell_of_another(self, model_id: str) -> None:
        configured = folder_of(self._text)
        of = "" if configured is None else encoder_of(configured)
        if of not in ("", model_id):
            log.warning(
                "text_space_unused",
                folder=str(configured),
                of_encoder=of,
                answering=model_id,
                advice="it is of another encoder: `similis reindex` changes over to that one if it "
                "is configured, `similis train bind` makes a text space of the one that answers",
            )
