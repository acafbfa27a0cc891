package pocketopt.whisper

import java.io.Closeable
import java.io.File

/**
 * A Whisper on Qualcomm's NPU, or on the CPU; the work is done in C++ (cpp/whisper.cpp).
 *
 * Not for use from several threads at once; keep it off the main thread.
 */
class Whisper private constructor(private var model: Long, val onNpu: Boolean) : Closeable {

    /**
     * What is said in [samples] (mono, [ModelFacts.SAMPLE_RATE] Hz, -1 to 1), as much of it as one window of
     * [ModelFacts.WINDOW_SAMPLES] holds. [language] is a code such as "de"; null detects it.
     */
    fun transcribe(samples: FloatArray, language: String? = null, translate: Boolean = false): String {
        check(model != 0L) { "this Whisper was closed" }
        return nativeTranscribe(model, samples, language ?: "", translate).toString(Charsets.UTF_8)
    }

    override fun close() {
        nativeClose(model)
        model = 0L
    }

    companion object {
        init {
            System.loadLibrary("whisper")
        }

        /**
         * The models below [assets], a folder of the file system with those of [ModelFacts]: on the NPU, else on the CPU if
         * the bundle has a model for it.
         *
         * @param libraries the folder of the app's native libraries
         * @throws RuntimeException neither could be opened; the cause is the NPU's
         */
        fun open(assets: File, libraries: File, threads: Int = 0): Whisper {
            var refusal: RuntimeException? = null
            ModelFacts.NPU_FOLDER?.let { folder ->
                try {
                    val provider = File(libraries, "libonnxruntime_providers_qnn.so").path
                    return Whisper(nativeOpen(File(assets, folder).path, provider, threads), onNpu = true)
                } catch (error: RuntimeException) {
                    refusal = error
                }
            }
            val folder = ModelFacts.CPU_FOLDER ?: throw refusal ?: RuntimeException("there is no model")
            try {
                return Whisper(nativeOpen(File(assets, folder).path, null, threads), onNpu = false)
            } catch (error: RuntimeException) {
                throw RuntimeException(error.message, refusal ?: error)
            }
        }

        @JvmStatic private external fun nativeOpen(folder: String, library: String?, threads: Int): Long

        @JvmStatic
        private external fun nativeTranscribe(model: Long, samples: FloatArray, language: String, translate: Boolean): ByteArray

        @JvmStatic private external fun nativeClose(model: Long)
    }
}
